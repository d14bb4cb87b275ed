"""What is wrong in the source of Azure's prices."""

import re

from shared.domain.cloud import CatalogCorrections, Retirement

_GPU_COUNTS = {"Standard_ND96isr_H100_v5": 8}
"""GPUs of machines whose count is wrong in the source (12 there; Azure's page of the ND H100 v5 series says 8)."""

_FRACTIONS = {
    "Standard_NV6ads_A10_v5": "a sixth of an A10",
    "Standard_NV12ads_A10_v5": "a third of an A10",
    "Standard_NV18ads_A10_v5": "half an A10",
    "Standard_NV4as_v4": "an eighth of a Radeon MI25",
    "Standard_NV8as_v4": "a quarter of a Radeon MI25",
    "Standard_NV16as_v4": "half a Radeon MI25",
}
"""Fractions of a GPU (Azure's pages of the NVadsA10 v5 and NVv4 series), to which some rows give a whole one."""

_RETIRED = (
    Retirement(re.compile(r"^Standard_NC(6|12|24|24r)(_Promo)?$"), "NC (K80)", "2023-09-06"),
    Retirement(re.compile(r"^Standard_NV(6|12|24)(_Promo)?$"), "NV (M60)", "2023-09-06"),
    Retirement(re.compile(r"^Standard_NC(6|12|24|24r)s_v3$"), "NCv3 (V100)", "2025-09-30"),
    Retirement(re.compile(r"^Standard_NV(12|24|48)s_v3$"), "NVv3 (M60)", "2026-09-30"),
    Retirement(re.compile(r"^Standard_NV(4|8|16|32)as_v4$"), "NVv4 (Radeon MI25)", "2026-09-30"),
)
"""From Azure's page of retired sizes and the retirement page of each series."""

CORRECTIONS = CatalogCorrections(gpu_counts=_GPU_COUNTS, fractions=_FRACTIONS, retired=_RETIRED)
