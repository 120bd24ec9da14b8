"""A firewall by group: rules, what they say of a connection, and the nftables table they become."""
