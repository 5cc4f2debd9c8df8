"""The dense part of a model, compiled by an inference engine; proposals, boxes and rendering stay ours.

Shapes: N images, H W the input.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pointrend.models import InstancePointRend, SemanticOutput, SemanticPointRend
from pointrend.models.instance import InstanceFeatures
from pointrend.zoo.cache import cache_folder
from pointrend.zoo.modelfile import InstanceModel, Model, SemanticModel

Engine = Literal["torch", "openvino", "auto"]
Precision = Literal["f32", "bf16"]
"""What the engine computes in: bf16 is faster where the processor has it, and labels change near boundaries."""
EXAMPLE = (97, 131)
"""The size of the input that is traced: odd, so that whatever sizes need is done, which even ones would skip."""

Dense = Callable[[Tensor], Sequence[Tensor]]
"""Images (N, 3, H, W) to maps (N, ., ., .)."""


class EngineError(ValueError):
    """An engine that is not installed, or cannot be used for this model."""


def with_engine(model: Model, engine: Engine = "auto", *, precision: Precision = "f32") -> Model:
    """The model with its dense part computed by an engine, for inputs of any size, on the CPU.

    The first use of a model converts it, which takes some ten seconds; the result is kept in the cache folder.

    Args:
        model: its network is taken apart; the returned model shares its weights.
        engine: "openvino"; "torch" leaves the model as it is; "auto" takes the fastest that is installed.
        precision: see `Precision`; only for engines other than torch.

    Raises:
        EngineError: no such engine or precision, it is not installed, or the model is not on the CPU.
    """
    if engine not in get_args(Engine):
        raise EngineError(f"engine must be one of {', '.join(get_args(Engine))}, got {engine!r}")
    if precision not in get_args(Precision):
        raise EngineError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")
    if engine == "auto":
        engine = "openvino" if importlib.util.find_spec("openvino") else "torch"
    if engine == "torch":
        if precision != "f32":
            raise EngineError(f"precision {precision} needs an engine: engine='openvino'")
        return model
    if any(parameter.device.type != "cpu" for parameter in model.network.parameters()):
        raise EngineError("the engine openvino computes on the CPU, the model is elsewhere: load it with device='cpu'")
    if isinstance(model, InstanceModel):
        dense = _openvino(_InstanceMaps(model.network), model, precision)
        return InstanceModel(CompiledInstance(model.network, dense), model.spec)
    dense = _openvino(_SemanticMaps(model.network), model, precision)
    return SemanticModel(CompiledSemantic(model.network, dense), model.spec)


class CompiledSemantic(SemanticPointRend):
    """A semantic network whose dense part is compiled."""

    def __init__(self, network: SemanticPointRend, dense: Dense) -> None:
        nn.Module.__init__(self)
        self.point_head = network.point_head
        self.padding = network.padding
        self._dense = dense

    def forward(self, images: Tensor) -> SemanticOutput:
        """See `SemanticPointRend.forward`."""
        coarse, *fine = self._dense(images)
        return SemanticOutput(coarse=coarse, fine=tuple(fine))


class CompiledInstance(InstancePointRend):
    """An instance network whose backbone and pyramid are compiled."""

    def __init__(self, network: InstancePointRend, dense: Dense) -> None:
        nn.Module.__init__(self)
        self.rpn, self.box_pool, self.box_head = network.rpn, network.box_pool, network.box_head
        self.box_predictor, self.box_coder = network.box_predictor, network.box_coder
        self.mask_head = network.mask_head
        self._dense = dense

    def features(self, images: Tensor, valid: Sequence[tuple[int, int]] | None = None) -> InstanceFeatures:
        """See `InstancePointRend.features`."""
        size = (images.shape[2], images.shape[3])
        maps = tuple(self._dense(images))
        pyramid, early = maps[:5], maps[5:]
        return InstanceFeatures(
            pyramid, (pyramid[0], *early), size, tuple(valid) if valid is not None else (size,) * len(images)
        )


class _SemanticMaps(nn.Module):
    """The dense part as engines want it: channels last, in and out."""

    def __init__(self, network: SemanticPointRend) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.network(images.permute(0, 3, 1, 2))
        return tuple(m.permute(0, 2, 3, 1) for m in (output.coarse, *output.fine))


class _InstanceMaps(nn.Module):
    def __init__(self, network: InstancePointRend) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.network.features(images.permute(0, 3, 1, 2))
        return tuple(m.permute(0, 2, 3, 1) for m in (*features.pyramid, *features.fine[1:]))


def _openvino(maps: nn.Module, model: Model, precision: Precision) -> Dense:
    try:
        import openvino
    except ImportError as error:
        raise EngineError("the engine openvino is not installed: pip install 'pointrend[openvino]'") from error
    core = openvino.Core()
    folder = cache_folder() / "engines" / f"openvino-{_fingerprint(model)}"
    if not (folder / "model.xml").is_file():
        _convert(maps, folder)
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(str(folder / "model.xml"), "CPU", settings)

    def dense(images: Tensor) -> list[Tensor]:
        # A request of its own, because the maps lie in its memory.
        request = compiled.create_infer_request()
        pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
        found = request.infer({0: pixels}, share_inputs=True, share_outputs=True)
        return [torch.from_numpy(found[index]).permute(0, 3, 1, 2) for index in range(len(compiled.outputs))]

    return dense


def _convert(maps: nn.Module, folder: Path) -> None:
    """Trace and convert, and write the result; the folder is whole or not there."""
    import openvino

    with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Tracing warns of every branch that depends on a size; `EXAMPLE` sees to those.
        warnings.simplefilter("ignore")
        converted = openvino.convert_model(maps.eval(), example_input=torch.zeros(1, *EXAMPLE, 3))
    converted.reshape(openvino.PartialShape([-1, -1, -1, 3]))
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        openvino.save_model(converted, str(temporary / "model.xml"), compress_to_fp16=False)
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / "model.xml").is_file():  # else another process was first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fingerprint(model: Model) -> str:
    """Of weights, settings and versions: what a conversion depends on."""
    digest = hashlib.sha256(model.spec.architecture.model_dump_json().encode())
    versions = {name: metadata.version(name) for name in ("openvino", "torch", "timm", "pointrend")}
    digest.update(json.dumps(versions, sort_keys=True).encode())
    for name, tensor in sorted(model.network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:20]
