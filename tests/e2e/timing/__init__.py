"""What a user waits for, measured in the end-to-end environment: the `ready` section of `make bench`."""
