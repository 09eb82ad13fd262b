"""The order of a build: driver, TensorRT, graph, kernels, plan, inspection, proof, files."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from birefnet_export.contract import FILE_NAME, REFERENCE_NAME, Contract, sha256

from . import api, builder, driver, graph, kernels, proof, store, timing
from . import manifest as manifests
from .config import BuildOptions
from .driver import Gpu
from .errors import ManifestError, ProofError
from .graph import Graph
from .inspection import Inspection
from .kernels import Compiler, Sources
from .manifest import Manifest
from .messages import Messages
from .progress import Screen
from .proof import Candidate
from .store import Store


@dataclass(frozen=True)
class Tools:
    """What a build asks of the machine; tests put fakes here."""

    probe: Callable[[], Gpu] = driver.probe
    tensorrt: Callable[[], Any] = api.load
    compiler: Callable[[Gpu], Compiler] = kernels.choose
    sources: Callable[[], Sources] = kernels.sources
    prove: Sequence[str] = proof.COMMAND


@dataclass(frozen=True)
class Request:
    """What to build: batches (none: the contract's) in one precision ("": the exported one)."""

    model: str
    batches: tuple[int, ...] = ()
    level: int = BuildOptions.level
    precision: str = ""
    force: bool = False


@dataclass(frozen=True)
class Result:
    """One plan that is there and proved. ``made`` says what was done for it now; "" is nothing."""

    manifest: Manifest
    made: str


@dataclass
class Workshop:
    """Everything that one run of the command uses. ``trt`` is the module ``tensorrt``."""

    gpu: Gpu
    trt: Any
    folder: Path
    contract: Contract
    options: BuildOptions
    tools: Tools
    screen: Screen
    messages: Callable[[], Messages] = field(default=Messages)

    def key(self, batch: int) -> str:
        """The key of the plan of ``batch``."""
        return manifests.key(
            str(self.trt.__version__),
            self.gpu.name,
            self.gpu.capability,
            self.options.precision,
            batch,
        )


def open_workshop(
    request: Request, tools: Tools, screen: Screen, messages: Callable[[], Messages] = Messages
) -> Workshop:
    """Look for everything that a build needs, in the order in which it is mended.

    Raises MissingError for the driver, TensorRT or the model folder; ContractError.
    """
    gpu = tools.probe()
    trt = tools.tensorrt()
    folder, contract = graph.open_folder(request.model)
    precision = request.precision or graph.exported_precision(contract)
    options = BuildOptions(request.level, precision)
    return Workshop(gpu, trt, folder, contract, options, tools, screen, messages)


def build(shop: Workshop, request: Request) -> Iterator[Result]:
    """Build, prove and publish a plan for each batch, unless an equal one is there already.

    Each is published, and given, before the next is begun. The folder stays locked until the last.
    Raises an EngineError or ManifestError.
    """
    batches = request.batches or (shop.contract.batch,)
    graphs = [
        graph.locate(shop.folder, shop.contract, shop.options.precision, batch) for batch in batches
    ]
    with store.hold(shop.folder) as held:
        for item in graphs:
            yield _one(shop, held, item, request.force)


@dataclass(frozen=True)
class Plan:
    """A plan on the disk, proved or not, with its inspection's summary."""

    path: Path
    seconds: float
    layers: dict[str, Any]


def _one(shop: Workshop, held: Store, item: Graph, force: bool) -> Result:
    """One plan: reuse what is still good of the old one, make the rest, prove it, publish it."""
    key, sources = shop.key(item.batch), shop.tools.sources()
    old = None if force else _old(shop, held, key)
    plan_is_old = old is not None and _same_plan(old, item, shop)
    kernels_are_old = old is not None and old.kernels_source == sources.digest
    if old and plan_is_old and kernels_are_old and old.contract_sha256 == _contract_sha256(shop):
        return Result(old, "")
    with held.draft() as draft:
        # Kernels first: a missing compiler is found before minutes of building.
        if old and kernels_are_old:
            compiler, cubin = old.versions.get("compiler", ""), held.engines / old.cubin
            files = old.kernels
        else:
            compiler, files = _compile(shop, sources, key, draft)
            cubin = draft / f"{key}.cubin"
        if old and plan_is_old:
            plan = Plan(held.engines / old.plan, old.seconds, old.layers)
        else:
            plan = _make_plan(shop, held, item, draft / f"{key}.plan")
        figures = _prove(shop, held, item, plan.path, cubin)
        manifest = _describe(shop, item, plan, figures, files, sources, compiler)
        held.publish(manifest, draft)
    return Result(manifest, "proved again" if old and plan_is_old else "built")


def _old(shop: Workshop, held: Store, key: str) -> Manifest | None:
    """The manifest of ``key`` if all its files are as it says; tells why not."""
    try:
        found = held.read(key)
        if found is not None:
            for name in (found.plan, found.cubin, found.ptx):
                manifests.verify(found, shop.folder, name)
    except ManifestError as error:
        shop.screen.say(f"not used: {error}")
        return None
    return found


def _same_plan(old: Manifest, item: Graph, shop: Workshop) -> bool:
    same_graph = old.onnx == item.path.name and old.fits(shop.contract.files)
    return same_graph and old.options == shop.options.as_dict()


def _contract_sha256(shop: Workshop) -> str:
    return sha256(shop.folder / FILE_NAME)


def _compile(shop: Workshop, sources: Sources, key: str, draft: Path) -> tuple[str, dict[str, str]]:
    """Compile the kernels into ``draft``: (compiler's name, file name -> sha256)."""
    compiler = shop.tools.compiler(shop.gpu)
    with shop.screen.step(f"compile the kernels with {compiler.name}"):
        for name, data in kernels.compile_all(compiler, sources, shop.gpu, key).items():
            store.write(draft / name, data)
    names = sorted(path.name for path in draft.iterdir())
    return compiler.name, {name: sha256(draft / name) for name in names}


def _make_plan(shop: Workshop, held: Store, item: Graph, path: Path) -> Plan:
    """Build ``item`` and write its plan to ``path``."""
    tensorrt = str(shop.trt.__version__)
    cache = timing.path_of(held.engines, tensorrt, shop.gpu.name)
    built = builder.build(shop.trt, item.path, shop.options, cache, shop.screen, shop.messages())
    store.write(path, built.plan)
    return Plan(path, built.seconds, built.inspection.summary())


def _prove(shop: Workshop, held: Store, item: Graph, plan: Path, cubin: Path) -> dict[str, Any]:
    """The proof's figures. ProofError: the plan is gone, and with it what was published of it."""
    candidate = Candidate(
        shop.folder.absolute(), plan, cubin, item.path.name, item.batch, item.precision
    )
    key = shop.key(item.batch)
    try:
        with shop.screen.step(f"prove {key} against {REFERENCE_NAME}"):
            return proof.prove(candidate, shop.tools.prove)
    except ProofError as error:
        plan.unlink(missing_ok=True)
        if plan.parent == held.engines:
            held.delete(key)
        raise ProofError(f"{key} is deleted: {error}") from error


def _describe(
    shop: Workshop,
    item: Graph,
    plan: Plan,
    figures: dict[str, Any],
    files: dict[str, str],
    sources: Sources,
    compiler: str,
) -> Manifest:
    """The manifest of a proved plan."""
    return Manifest(
        key=shop.key(item.batch),
        tensorrt=str(shop.trt.__version__),
        gpu=shop.gpu.name,
        capability=shop.gpu.capability,
        precision=item.precision,
        batch=item.batch,
        onnx=item.path.name,
        onnx_sha256=item.sha256,
        onnx_data=item.data,
        contract_sha256=_contract_sha256(shop),
        plan_sha256=sha256(plan.path),
        plan_bytes=plan.path.stat().st_size,
        kernels=files,
        kernels_source=sources.digest,
        options=shop.options.as_dict(),
        seconds=plan.seconds,
        parity=figures,
        layers=plan.layers,
        versions=_versions(shop, compiler),
    )


def _versions(shop: Workshop, compiler: str) -> dict[str, str]:
    try:
        own = version("birefnet-trt")
    except PackageNotFoundError:
        own = "from source"
    return {
        "birefnet-trt": own,
        "python": platform.python_version(),
        "tensorrt": str(shop.trt.__version__),
        "driver": "CUDA {}.{}".format(*shop.gpu.cuda),
        "compiler": compiler,
    }


def inspect(shop: Workshop, manifest: Manifest) -> Inspection:
    """The layers of a plan that is there. Raises ManifestError unless it is what was proved."""
    data = manifests.verify(manifest, shop.folder).read_bytes()
    messages = shop.messages()
    return builder.inspect(shop.trt, data, api.make_logger(shop.trt, messages.add))
