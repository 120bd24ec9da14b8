"""The only room that knows ioctl and netlink."""
