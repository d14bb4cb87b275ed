"""The command `gpulaunch`, built on `gpulaunch.client`."""
