"""One interface: where peers, protocol and data path meet."""
