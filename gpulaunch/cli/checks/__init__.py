"""What `gpulaunch doctor` checks; each check is a function that gives a Check."""
