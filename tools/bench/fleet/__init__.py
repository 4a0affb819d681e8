"""`bench fleet`: many vehicles against one cloud process.

Real: the cloud process and its command line, gRPC with mutual TLS and a certificate for each vehicle, the
vehicle's control stream, update client, TUF, slots on disk with their fsyncs, probation. Simulated: cameras
and frame loop (no inference; a change of model is done as soon as it is asked for), and there are many
vehicles to a process.
"""
