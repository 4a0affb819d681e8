"""The daemon and the machine it runs on: its service manager, disk, memory and wall clock."""
