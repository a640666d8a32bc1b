"""Compile the Triton kernels for one compute capability, without a device."""

import sys

from triton import compile as compile_kernel
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sqap_vla_ros.kernels import triton_matmul, triton_rows
from sqap_vla_ros.kernels.triton_tiles import candidates

SHARED_KB = {80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 100: 227, 120: 99}
"""Shared memory a program may use (CUDA programming guide, compute capabilities)."""
DIVISIBLE = ('outputs', 'inputs', 'weight_stride', 'width')
"""Arguments that are multiples of 16; Triton's launcher detects this itself."""


def build(kernel, capability, types, constants, warps, stages=3):
    """Compile one kernel and return its shared memory in bytes and its PTX."""
    names = kernel.arg_names
    signature = {name: 'constexpr' if name in constants else types[name] for name in names}
    aligned = [['tt.divisibility', 16]]
    attributes = {
        (i,): aligned
        for i, name in enumerate(names)
        if signature[name].startswith('*') or name in DIVISIBLE
    }
    source = ASTSource(
        kernel, signature, {(names.index(k),): v for k, v in constants.items()}, attributes
    )
    compiled = compile_kernel(
        source,
        target=GPUTarget('cuda', capability, 32),
        options={'num_warps': warps, 'num_stages': stages},
    )
    assert len(compiled.asm['cubin']) > 1000
    return compiled.metadata.shared, compiled.asm['ptx']


def matmul(capability, config, bits=4, group=0):
    types = {
        'codes': '*i8',
        'weights': '*u8' if bits == 4 else '*i8',
        'row_scales': '*fp32',
        'scales': '*fp32',
        'bias': '*fp32',
        'out': '*bf16',
        'rows': 'i32',
        'outputs': 'i32',
        'inputs': 'i32',
        'weight_stride': 'i32',
    }
    constants = {
        'GROUP': group,
        'BITS': bits,
        'HAS_BIAS': True,
        'EXACT': False,
        'WEIGHTS_FIRST': config.weights_first,
        'BLOCK_M': config.block_m,
        'BLOCK_N': config.block_n,
        'BLOCK_K': min(config.block_k, group or config.block_k),
    }
    return build(
        triton_matmul.matmul_kernel, capability, types, constants, config.warps, config.stages
    )


def rows(capability, width, before):
    rotated = capability // 10 != triton_rows.UNFOLDED_MAJOR
    shape = (
        triton_rows.row_shape(width)
        if rotated
        else triton_rows.RowShape((1, 1, width), (1, 1, 1 << (width - 1).bit_length()), 1.0)
    )
    types = {
        'x': '*bf16',
        'other': '*bf16',
        'norm_weight': '*bf16',
        'signs': '*i8',
        'left': '*fp32',
        'middle': '*fp32',
        'right': '*fp32',
        'codes': '*i8',
        'scales': '*fp32',
        'width': 'i32',
        'epsilon': 'fp32',
        'factor': 'fp32',
        'levels': 'fp32',
    }
    constants = {
        'BEFORE': before,
        'ROTATE': rotated,
        **dict(zip('RAB', shape.axes)),
        **dict(zip(('PR', 'PA', 'PB'), shape.padded)),
    }
    return build(triton_rows.rows_kernel, capability, types, constants, triton_rows.warps(width))


def main(capability):
    """Compile the first candidate of each table entry and the row kernels of a 7B decoder."""
    results = {}
    for count in (1, 64, 290):
        results[f'matmul w4 {count} rows'] = matmul(capability, candidates(capability, count)[0])
    first = candidates(capability, 290)[0]
    results['matmul w4 groups'] = matmul(capability, first, group=128)
    results['matmul w8'] = matmul(capability, first, bits=8)
    results['rms norm 4096'] = rows(capability, 4096, triton_rows.RMS_NORM)
    # A row of 11008 inputs needs more shared memory than some devices have; there torch rotates.
    if triton_rows.row_shape(11008).shared_bytes <= SHARED_KB[capability] * 1024:
        results['silu 11008'] = rows(capability, 11008, triton_rows.SILU_MULTIPLY)
    results['silu 8192'] = rows(capability, 8192, triton_rows.SILU_MULTIPLY)
    for name, (shared, ptx) in results.items():
        assert shared <= SHARED_KB[capability] * 1024, (name, shared)
        if name.startswith('matmul'):
            assert 'mma' in ptx, f'{name}: no tensor cores'
        print(f'sm_{capability} {name}: {shared} bytes of shared memory')


if __name__ == '__main__':
    main(int(sys.argv[1]))
