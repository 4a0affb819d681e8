"""Label Studio on this machine, in an environment of its own: `make label-studio`."""
