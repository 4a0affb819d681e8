"""`bench edge`: the daemon as it runs on a vehicle, measured from outside: real processes, real clients."""
