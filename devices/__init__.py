"""What is out there: kinds of device and their metrics, the registry, the grid tree, columns of readings."""
