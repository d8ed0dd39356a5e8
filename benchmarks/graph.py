"""ONNX networks that the product runs, made by a script from what their packages hold."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data_tools.atomic import atomic_path
from data_tools.cli import command, exit_status, parse
from data_tools.errors import MissingPackage

if TYPE_CHECKING:
    from onnx import ModelProto

_OPSET, _IR = 13, 7  # old enough for every ONNX Runtime that setup.cfg allows


class Graph:
    """A graph under construction: nodes and constants by name.

    Raises:
        MissingPackage: onnx is not there.
    """

    def __init__(self) -> None:
        try:
            from onnx import helper, numpy_helper
        except ImportError:
            raise MissingPackage("networks are written with onnx: pip install onnx") from None
        self._helper, self._numpy = helper, numpy_helper
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._names = (f"x{number}" for number in itertools.count())

    def node(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node of one output; returns its name."""
        name = name or next(self._names)
        self._nodes.append(self._helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def nodes(self, kind: str, *inputs: str, names: Sequence[str], **attributes: Any) -> None:
        """Add a node of several outputs."""
        self._nodes.append(self._helper.make_node(kind, list(inputs), list(names), **attributes))

    def constant(self, values: NDArray[Any] | Sequence[int]) -> str:
        """Add numbers; returns their name."""
        name = next(self._names)
        array = np.ascontiguousarray(values)
        self._constants.append(self._numpy.from_array(array, name))
        return name

    def model(
        self, name: str, inputs: dict[str, tuple[Any, Any]], outputs: dict[str, tuple[Any, Any]]
    ) -> "ModelProto":
        """The whole, checked; inputs and outputs are (NumPy type, shape with names of sizes)."""
        import onnx

        given, found = (
            [
                self._helper.make_tensor_value_info(
                    each, self._helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape
                )
                for each, (kind, shape) in values.items()
            ]
            for values in (inputs, outputs)
        )
        graph = self._helper.make_graph(self._nodes, name, given, found, self._constants)
        made: ModelProto = self._helper.make_model(
            graph,
            producer_name="",
            opset_imports=[self._helper.make_opsetid("", _OPSET)],
            ir_version=_IR,
        )
        onnx.checker.check_model(made, full_check=True)
        return made


def write_network(
    program: str,
    description: str | None,
    file: Path,
    make: Callable[[], "ModelProto"],
    argv: list[str] | None,
) -> int:
    """Command line that writes what `make` makes; 2 wrong usage, 1 a package is missing."""
    parser = command(f"python -m benchmarks.{program}", description or "")
    parser.add_argument("--out", type=Path, default=file, help="file to write")

    def work() -> None:
        args = parse(parser, argv)
        made = make().SerializeToString(deterministic=True)
        with atomic_path(args.out) as temporary:
            temporary.write_bytes(made)
        print(f"wrote {args.out}")

    return exit_status(program, work, "stopped")
