"""Signed updates: what is offered is checked, fetched, staged in a slot, put on probation, confirmed or
reverted.

`trust`, `slot_state` and `probation` hold the rules, without I/O; `client` and `slots` the network and the
disk; `models` and `part` join them to the daemon, as its model store and as a thread; `watch` looks after the
model that runs.

python-tuf takes a quarter of a second to import, so `fetcher`, `metadata` and `evidence`, which need it, are
imported at their first use: a daemon that drives on its factory model and asks for no updates never pays for
it.
"""
