"""The cloud's side of the fleet: identities, and the gRPC service that vehicles connect to."""
