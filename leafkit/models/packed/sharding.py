"""Layers whose weights are shared out among processes (FSDP2, ``torch.distributed.fsdp``), run
packed.
"""

from __future__ import annotations

from types import MethodType

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from transformers import PreTrainedModel

from leafkit.models.packed.architecture import SHARDED_RUN, run_whole
from leafkit.models.packed.backbone import packed_layers


def shard_layers(backbone: PreTrainedModel, mesh: DeviceMesh) -> None:
    """Leave each process of a mesh its share of every layer, in place. A layer is whole while it is
    computed: for that, FSDP hooks a method that packed execution calls, as it never calls the
    layer's own forward.

    Args:
        backbone: that ``can_pack``.
        mesh: of one dimension.
    """
    for layer in packed_layers(backbone):
        setattr(layer, SHARDED_RUN, MethodType(run_whole, layer))
        fully_shard(layer, mesh=mesh)
        register_fsdp_forward_method(layer, SHARDED_RUN)
