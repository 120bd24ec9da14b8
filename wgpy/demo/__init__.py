"""A tunnel between two network namespaces of this machine, made, tried, shown and removed."""
