"""Memory of one GPU, GiB, under SkyPilot's names of accelerators.

The figures are the nominal ones of the makers' public data sheets: what is called "80 GB" there is, for these devices,
close to 80 GiB (an H100 reports 79.6 GiB, an A10 with error correction 22.5 GiB of its 24). They are good for telling
that a model can't fit, not for filling the last gigabyte.

Sources: NVIDIA's data sheets of the A10, A16, A30, A40, A100 (40 and 80 GB), A800, H100 (SXM and NVL), H200 (SXM and
NVL), GH200, L4, L40, L40S, T4, V100, P4, P100, Tesla M60 and K80 (both have two GPUs on a board; the figure is for one
GPU), of the Quadro and RTX workstation cards (P4000, M4000, RTX 6000, A4000 to A6000, the Ada and PRO 6000 Blackwell
lines) and of the GeForce cards; AMD's pages of the Instinct MI300X, Radeon Instinct MI25 and Radeon Pro V520; AWS's
page of G5g for the T4g; Habana's page of the HL-205. Where one name stands for several sizes (RTX3060, GH200) the
smaller counts, so that a doubt ends in a warning. B200 and B300 are left out: the published figures differ.

Azure's own pages: the NCads_H100_v5 machines have the H100 NVL with 94 GB.
"""

_NOMINAL_GIB: dict[str, float] = {
    "A10": 24,
    "A100": 40,
    "A100-80GB": 80,
    "A100-80GB-SXM": 80,
    "A10G": 24,
    "A16": 16,
    "A30": 24,
    "A40": 48,
    "A4000": 16,
    "A5000": 24,
    "A6000": 48,
    "A800": 80,
    "GH200": 96,
    "Gaudi HL-205": 32,
    "H100": 80,
    "H100-MEGA": 80,
    "H100-NVL": 94,
    "H100-NVLINK": 80,
    "H100-SXM": 80,
    "H200": 141,
    "H200-SXM": 141,
    "K80": 12,
    "L4": 24,
    "L40": 48,
    "L40S": 48,
    "M4000": 8,
    "M60": 8,
    "MI300X": 192,
    "NVIDIA-H200-NVL": 141,
    "P100": 16,
    "P4": 8,
    "P4000": 8,
    "RTX2000-Ada": 16,
    "RTX3060": 8,
    "RTX3090": 24,
    "RTX4000-Ada": 20,
    "RTX4060": 8,
    "RTX4070": 12,
    "RTX4090": 24,
    "RTX5070": 12,
    "RTX5090": 32,
    "RTX5880-Ada": 48,
    "RTX6000": 24,
    "RTX6000-Ada": 48,
    "RTX6000Ada": 48,
    "RTXA4000": 16,
    "RTXA4500": 20,
    "RTXA5000": 24,
    "RTXA6000": 48,
    "RTXPRO6000": 96,
    "RTXPRO6000-WK": 96,
    "RTXPRO6000WS": 96,
    "Radeon MI25": 16,
    "Radeon Pro V520": 8,
    "T4": 16,
    "T4g": 16,
    "V100": 16,
    "V100-32GB": 32,
}

_BY_TYPE_GIB: dict[str, float] = {"Standard_NC40ads_H100_v5": 94, "Standard_NC80adis_H100_v5": 94}
"""Machine types whose GPU has more memory than its name says."""


def gpu_memory_gib(gpu: str, instance_type: str | None = None) -> float | None:
    """Nominal memory of one GPU, GiB; None when unknown. The machine type decides where its GPU is a special one."""
    if instance_type is not None and instance_type in _BY_TYPE_GIB:
        return _BY_TYPE_GIB[instance_type]
    return _NOMINAL_GIB.get(gpu)
