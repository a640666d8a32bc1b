"""
Bindings of the C++ kernels in `csrc/`, by ctypes with raw pointers.

A call costs a few microseconds, which a layer of the small policy would notice if it were more.
The library is built by the package's CMake; where it is missing, `load` says so.
"""

import ctypes
from functools import cache
from pathlib import Path

import torch

import sqap_vla_ros
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.kernels.hadamard import hadamard

LIBRARY = 'libsqap_vla_kernels.so'
PANEL = 32
TYPES = {torch.float32: 0, torch.bfloat16: 1}
GATES = {'silu': 0, 'gelu_tanh': 1}

_pointer, _int64, _int32 = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32


class _Linear(ctypes.Structure):
    """`sqap::Linear` of csrc/kernels.h."""

    _fields_ = [
        ('weights', _pointer),
        ('scales', _pointer),
        ('bias', _pointer),
        ('signs', _pointer),
        ('hartley', _pointer),
        ('inputs', _int64),
        ('outputs', _int64),
        ('odd', _int64),
        ('groups', _int64),
        ('weight_bits', _int32),
        ('activation_levels', _int32),
    ]


@cache
def load() -> ctypes.CDLL:
    """Load the library. Raises UserError where it was not built."""
    for root in sqap_vla_ros.__path__:
        path = Path(root) / 'kernels' / LIBRARY
        if path.exists():
            break
    else:
        raise UserError(
            f'kernels/{LIBRARY} is not installed; build the package with CMake or '
            'colcon, or choose the backend reference'
        )
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise UserError(f'{path}: cannot be loaded: {error}') from None
    signatures = {
        'sqap_isa': (ctypes.c_char_p,),
        'sqap_set_isa': (ctypes.c_int, ctypes.c_char_p),
        'sqap_pack': (None, _pointer, _int64, _int64, _int64, _int32, _pointer),
        'sqap_linear': (None, _pointer, _pointer, _pointer, _int64, _int32, _int64),
        'sqap_activation_bytes': (_int64, _pointer, _int64),
        'sqap_quantize_into': (
            None,
            _pointer,
            _pointer,
            _pointer,
            ctypes.c_float,
            _pointer,
            _int64,
            _int32,
            _int64,
        ),
        'sqap_multiply': (None, _pointer, _pointer, _pointer, _int64, _int32, _int64),
        'sqap_gated_mlp': (
            None,
            *[_pointer] * 4,
            ctypes.c_float,
            _pointer,
            _pointer,
            _int64,
            _int32,
            _int32,
            _int64,
        ),
        'sqap_round_rows': (
            None,
            _pointer,
            _pointer,
            _int64,
            _int64,
            _int32,
            _pointer,
            _int64,
            _pointer,
            _int32,
            _int64,
        ),
        'sqap_quantize': (None, _pointer, _pointer, _int64, _int32, _pointer, _pointer),
        'sqap_accumulate': (None, _pointer, _pointer, _int64, _int32, _pointer),
        'sqap_farthest_points': (None, _pointer, _pointer, _int64, _int64, _pointer),
        'sqap_peak': (ctypes.c_double, _int64),
    }
    for name, (result, *arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def instruction_set() -> str:
    """Name of the instruction set in use: 'amx_int8', 'avx512_vnni', 'avx2' or 'generic'."""
    return load().sqap_isa().decode()


def set_instruction_set(name: str | None) -> None:
    """
    Use this instruction set from now on, None: the best that the processor has.

    Raises UserError where the processor does not have it.
    """
    if load().sqap_set_isa(name.encode() if name else None):
        raise UserError(f'instruction set {name!r} is unknown, or this processor lacks it')


@cache
def hartley(size: int) -> tuple[int, torch.Tensor | None]:
    """Odd factor m of a size, and the orthonormal Hartley matrix float32 [m, m], None for 1."""
    odd = size
    while odd % 2 == 0:
        odd //= 2
    return odd, None if odd == 1 else hadamard(torch.eye(odd)).contiguous()


class PackedLinear:
    """
    One layer in the kernels' layout (csrc/kernels.h); its weights are stored once, here.

    codes: as in a checkpoint, uint8 [N, K / 2] or int8 [N, K]; scale: float32 [N] or [N, groups];
    bias: float32 [N] or None; signs: int8 [K] or None where inputs are not rotated;
    activation_levels: largest code of the activations. All contiguous, on the CPU. With groups,
    K / groups is a multiple of 4.
    """

    def __init__(
        self,
        codes: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor | None,
        signs: torch.Tensor | None,
        activation_levels: int,
    ) -> None:
        self._library = library = load()
        bits = 4 if codes.dtype == torch.uint8 else 8
        self.outputs, self.inputs = codes.shape[0], codes.shape[1] * 8 // bits
        groups = 1 if scale.dim() == 1 else scale.shape[1]
        panels = -(-self.outputs // PANEL)
        padding = panels * PANEL - self.outputs
        steps = groups * -(-self.inputs // groups // 4)
        self.weights = torch.empty(panels, steps, bits * 16, dtype=torch.uint8)
        library.sqap_pack(
            codes.contiguous().data_ptr(),
            self.outputs,
            self.inputs,
            groups,
            bits,
            self.weights.data_ptr(),
        )
        # [N, groups] -> [panels, groups, 32]
        scale = torch.nn.functional.pad(
            scale.float().view(self.outputs, groups), (0, 0, 0, padding)
        )
        self.scales = scale.view(panels, PANEL, groups).transpose(1, 2).contiguous()
        self.bias = None if bias is None else torch.nn.functional.pad(bias.float(), (0, padding))
        self.signs = signs
        odd, self._hartley = (1, None) if signs is None else hartley(self.inputs)

        def address(tensor):
            return None if tensor is None else tensor.data_ptr()

        self._struct = _Linear(
            address(self.weights),
            address(self.scales),
            address(self.bias),
            address(self.signs),
            address(self._hartley),
            self.inputs,
            self.outputs,
            odd,
            groups,
            bits,
            activation_levels,
        )
        self.address = ctypes.addressof(self._struct)
        self._linear = library.sqap_linear

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x: float32 or bfloat16 [..., K]. Returns [..., N] of the same type."""
        if not x.is_contiguous():
            x = x.contiguous()
        y = x.new_empty((*x.shape[:-1], self.outputs))
        self._linear(
            self.address,
            x.data_ptr(),
            y.data_ptr(),
            x.numel() // self.inputs,
            TYPES[x.dtype],
            torch.get_num_threads(),
        )
        return y

    def quantize(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes int8 [M, K] and scales float32 [M] that the layer makes of x [M, K]."""
        codes = torch.empty(x.shape, dtype=torch.int8)
        scales = torch.empty(len(x))
        self._library.sqap_quantize(
            self.address, x.data_ptr(), len(x), TYPES[x.dtype], codes.data_ptr(), scales.data_ptr()
        )
        return codes, scales

    def accumulate(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply the codes of x [M, K] by those of the weight: int32 [M, N]; one group only."""
        sums = torch.empty(len(x), self.outputs, dtype=torch.int32)
        self._library.sqap_accumulate(
            self.address, x.data_ptr(), len(x), TYPES[x.dtype], sums.data_ptr()
        )
        return sums


class PackedRows:
    """
    Quantized activations in the kernels' layout, for layers with the same inputs and rotation.

    memory: uint8, opaque; shape: [..., K] of what was quantized; dtype: of its values.
    """

    __slots__ = ('dtype', 'memory', 'shape')

    def __init__(self, memory: torch.Tensor, shape: torch.Size, dtype: torch.dtype) -> None:
        self.memory, self.shape, self.dtype = memory, shape, dtype


def quantize_once(
    layer: PackedLinear,
    x: torch.Tensor,
    norm_weight: torch.Tensor | None = None,
    epsilon: float = 0.0,
) -> PackedRows:
    """
    Quantize x [..., K] for `layer` and all that share its inputs and rotation; see `multiply`.

    norm_weight: float32 [K], of an RMSNorm that is applied to x before, or None.
    """
    x = x.contiguous()
    rows = x.numel() // layer.inputs
    library = load()
    memory = torch.empty(library.sqap_activation_bytes(layer.address, rows), dtype=torch.uint8)
    library.sqap_quantize_into(
        layer.address,
        x.data_ptr(),
        None if norm_weight is None else norm_weight.data_ptr(),
        epsilon,
        memory.data_ptr(),
        rows,
        TYPES[x.dtype],
        torch.get_num_threads(),
    )
    return PackedRows(memory, x.shape, x.dtype)


def multiply(layer: PackedLinear, x: PackedRows) -> torch.Tensor:
    """Output [..., N] of a layer, in the type that x had."""
    y = torch.empty((*x.shape[:-1], layer.outputs), dtype=x.dtype)
    load().sqap_multiply(
        layer.address,
        x.memory.data_ptr(),
        y.data_ptr(),
        y.numel() // layer.outputs,
        TYPES[x.dtype],
        torch.get_num_threads(),
    )
    return y


def gated_mlp(
    gate: PackedLinear,
    up: PackedLinear,
    down: PackedLinear,
    x: torch.Tensor,
    function: str = 'silu',
    norm_weight: torch.Tensor | None = None,
    epsilon: float = 0.0,
) -> torch.Tensor:
    """
    Compute down(f(gate(x)) * up(x)) of x [..., K], f of GATES.

    Gate and up share inputs and rotation. norm_weight, epsilon: as in `quantize_once`.
    """
    x = x.contiguous()
    y = x.new_empty((*x.shape[:-1], down.outputs))
    load().sqap_gated_mlp(
        gate.address,
        up.address,
        down.address,
        None if norm_weight is None else norm_weight.data_ptr(),
        epsilon,
        x.data_ptr(),
        y.data_ptr(),
        x.numel() // gate.inputs,
        TYPES[x.dtype],
        GATES[function],
        torch.get_num_threads(),
    )
    return y


def round_rows(x: torch.Tensor, levels: int, signs: torch.Tensor | None) -> torch.Tensor:
    """Rotate rows of x [..., d] (signs int8 [d], or None) and round each to code * scale."""
    if x.dtype not in TYPES:
        return round_rows(x.float(), levels, signs).to(x.dtype)
    width = x.shape[-1]
    # Heads are views of [N, heads, d]: in memory still rows of d, one after another.
    out = torch.empty_like(x)
    if out.stride() != x.stride() or x.stride(-1) != 1 or x.stride(-2) % width:
        x = x.contiguous()
        out = torch.empty_like(x)
    odd, matrix = (1, None) if signs is None else hartley(width)
    load().sqap_round_rows(
        x.data_ptr(),
        out.data_ptr(),
        x.numel() // width,
        width,
        TYPES[x.dtype],
        None if signs is None else signs.data_ptr(),
        odd,
        None if matrix is None else matrix.data_ptr(),
        levels,
        torch.get_num_threads(),
    )
    return out


def farthest_points(separation: torch.Tensor, nearest: torch.Tensor, count: int) -> torch.Tensor:
    """
    Pick `count` points one by one, each the farthest from all before; see `token_selection`.

    separation: float32 [V, V]; nearest: float32 [V], distances to those chosen before, which is
    brought up to date in place. Both contiguous. Returns int64 [count].
    """
    points = torch.empty(count, dtype=torch.int64)
    load().sqap_farthest_points(
        separation.data_ptr(), nearest.data_ptr(), len(nearest), count, points.data_ptr()
    )
    return points


def available() -> bool:
    """Whether the library can be loaded."""
    try:
        load()
    except UserError:
        return False
    return True


def peak(rounds: int) -> float:
    """Multiply-adds done by `rounds` rounds of the multiplying instruction and nothing else."""
    return load().sqap_peak(rounds)
