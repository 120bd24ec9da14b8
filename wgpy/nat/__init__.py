"""Ways through NATs: STUN, port mapping, hole punching, relays, and who drives a device by them.

The parts that speak a protocol have no socket and no clock: datagrams and the time are arguments,
and what is to be sent is asked for. Shells with sockets stand in files of their own.
"""
