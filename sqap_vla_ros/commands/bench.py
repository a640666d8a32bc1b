"""`sqap_vla bench`: how fast models of real shapes run here, and how much compression gains."""

import argparse
from pathlib import Path
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from sqap_vla_ros.benchmark.variants import Variant
    from sqap_vla_ros.benchmark.workloads import Workload
    from sqap_vla_ros.models.family import Preset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from sqap_vla_ros.benchmark.presets import all_presets

    parser.add_argument(
        '--preset',
        default='shipped',
        help=f'one of {", ".join(all_presets())} (default %(default)s)',
    )
    parser.add_argument(
        '--policy',
        type=Path,
        help='policy directory for --preset shipped '
        '(default: the one that ships with the package)',
    )
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--threads', type=int, default=1, help='(default 1)')
    parser.add_argument(
        '--variants',
        nargs='+',
        metavar='VARIANT',
        help='fp32, bf16, bf16_graph, w8a8, w4a8, w4a4, each also with _prune40 '
        '(default: all that this machine can run)',
    )
    parser.add_argument('--backend', default='auto', help='of the quantized layers')
    parser.add_argument(
        '--instruction-set',
        metavar='NAME',
        help="of the package's CPU kernels: amx_int8, avx512_vnni, avx2 or "
        'generic (default: the best that the processor has); oneDNN, which runs '
        'bf16, heeds ONEDNN_MAX_CPU_ISA',
    )
    parser.add_argument(
        '--rounds',
        type=int,
        default=15,
        help='interleaved measurements of each variant (default 15)',
    )
    parser.add_argument(
        '--cpu-time',
        action='store_true',
        help='count the processor time of the one thread instead of the clock on '
        'the wall: for busy machines, and a CPU with --threads 1 only',
    )
    parser.add_argument(
        '--linears',
        action='store_true',
        help='measure linear layers of the decoder one by one as well',
    )
    parser.add_argument(
        '--control',
        action='store_true',
        help='time the command loop of the policy node instead, while inference '
        'runs, beside a bare loop on the steady clock',
    )
    parser.add_argument(
        '--ros',
        action='store_true',
        help='measure instead, across the processes of the demonstration, from '
        'the stamp of an image to the first command that can follow it',
    )
    parser.add_argument(
        '--seconds', type=float, default=30.0, help='of --control and --ros (default %(default)s)'
    )
    parser.add_argument(
        '--rate',
        type=float,
        default=50.0,
        metavar='HZ',
        help='commands a second with --control (default %(default)s)',
    )
    parser.add_argument('--json', type=Path, help='write everything to this file')
    parser.add_argument('--plot', type=Path, help='write a plot to this file (png, svg or pdf)')


def run(arguments: argparse.Namespace) -> int:
    """Build the variants, measure them in turn, and print a table."""
    from tempfile import TemporaryDirectory

    from sqap_vla_ros.errors import UserError

    for option in ('rounds', 'threads'):
        if getattr(arguments, option) < 1:
            raise UserError(f'--{option} is {getattr(arguments, option)}, expected at least 1')
    if arguments.cpu_time and (arguments.device != 'cpu' or arguments.threads != 1):
        raise UserError('--cpu-time counts one thread: it needs --device cpu and --threads 1')
    for path in (arguments.json, arguments.plot):
        if path is not None and not path.absolute().parent.is_dir():
            raise UserError(f'{path}: its directory does not exist')
    with TemporaryDirectory() as scratch:
        if arguments.control:
            _run_control(arguments, Path(scratch))
        elif arguments.ros:
            _run_ros(arguments, Path(scratch))
        else:
            _run(arguments, Path(scratch))
    return 0


def _run_control(arguments: argparse.Namespace, scratch: Path) -> None:
    from sqap_vla_ros.errors import UserError
    from sqap_vla_ros.system.command_timing import run as time_commands

    if not 1 <= arguments.rate <= 500 or not arguments.seconds > 0:
        raise UserError('--rate must be within 1 .. 500 Hz and --seconds more than 0')
    found = time_commands(
        arguments.policy or _shipped_policy(), scratch, arguments.seconds, arguments.rate
    )
    print(
        f'{found["commands"]} commands at {arguments.rate:g} Hz while inference ran; deviation '
        'of the period, ms:'
    )
    for name, title in (('command', 'policy_node'), ('bare', 'bare loop')):
        print(
            f'  {title:<12}'
            + '  '.join(
                f'{q} {found[f"{name}_deviation_{q}_ms"]:7.3f}' for q in ('p50', 'p99', 'max')
            )
        )
    print(f'  p99 above the bare loop: {found["p99_above_bare_ms"]:.3f} ms')
    _write_json(arguments.json, found)


def _run_ros(arguments: argparse.Namespace, scratch: Path) -> None:
    from sqap_vla_ros.errors import UserError
    from sqap_vla_ros.system.command_latency import run as time_chunks

    if not arguments.seconds > 0:
        raise UserError('--seconds must be more than 0')
    found = time_chunks(arguments.policy or _shipped_policy(), scratch, arguments.seconds)
    print(f'{found["chunks"]} chunks over DDS, ms:')
    for name, title in (
        ('image_to_command_ms', 'image stamp to command'),
        ('inference_ms', 'of which inference'),
    ):
        print(
            f'  {title:<24}'
            + '  '.join(f'{quantile} {value:7.1f}' for quantile, value in found[name].items())
        )
    _write_json(arguments.json, found)


def _write_json(path: Path | None, found: dict[str, Any]) -> None:
    import json

    import torch

    from sqap_vla_ros.benchmark.machine import describe

    if path:
        found['machine'] = describe(torch.device('cpu'))
        path.write_text(json.dumps(found, indent=1) + '\n', 'utf-8')


def _run(arguments: argparse.Namespace, scratch: Path) -> None:
    from time import perf_counter, thread_time

    import torch
    from tqdm import tqdm

    from sqap_vla_ros.benchmark import machine, report
    from sqap_vla_ros.benchmark.building import outline
    from sqap_vla_ros.benchmark.linears import decoder_shapes, measure_linears, quantized_variants
    from sqap_vla_ros.benchmark.measure import measure
    from sqap_vla_ros.benchmark.presets import find_preset
    from sqap_vla_ros.benchmark.variants import NAMES, parse
    from sqap_vla_ros.errors import UserError
    from sqap_vla_ros.kernels import cpu

    if arguments.instruction_set is not None:
        cpu.set_instruction_set(arguments.instruction_set)
    preset = find_preset(arguments.preset)
    if arguments.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda: torch finds no CUDA device here')
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    variants = [parse(name) for name in dict.fromkeys(arguments.variants or NAMES)]
    workloads, left_out = _workloads(arguments, preset, variants, device, scratch)
    clock = thread_time if arguments.cpu_time else perf_counter
    for workload in workloads:
        workload.clock = clock
    peaks = machine.peak_gmacs(device)
    measurements = measure(workloads, arguments.rounds, lambda rounds: tqdm(rounds, desc='rounds'))
    linears = []
    quantized = quantized_variants([w.variant for w in workloads])
    if arguments.linears and preset.config is not None and quantized:
        shapes = decoder_shapes(outline(preset, parse(quantized[0])))
        linears = measure_linears(shapes, quantized, device, arguments.backend, clock=clock)
    found = report.to_json(
        preset.name,
        machine.describe(device),
        peaks,
        measurements,
        linears,
        left_out,
        {
            'rounds': arguments.rounds,
            'clock': clock.__name__,
            'text_tokens': preset.text_tokens,
            'visual_tokens': preset.visual_tokens,
        },
    )
    report.print_report(found)
    if arguments.json:
        report.write_json(found, arguments.json)
    if arguments.plot:
        report.plot(found, arguments.plot)


def _workloads(
    arguments: argparse.Namespace,
    preset: 'Preset',
    variants: list['Variant'],
    device: 'torch.device',
    scratch: Path,
) -> tuple[list['Workload'], list[str]]:
    """Build the variants that can run here; returns them and why the others cannot."""
    from sqap_vla_ros.benchmark.workloads import make_workload
    from sqap_vla_ros.errors import UserError

    policy = arguments.policy or _shipped_policy() if preset.config is None else None
    workloads, left_out = [], []
    for variant in variants:
        try:
            workloads.append(
                make_workload(preset, variant, device, arguments.backend, policy, scratch)
            )
        except UserError as error:
            left_out.append(str(error))
    if not workloads:
        raise UserError(f'no variant of {preset.name} can run here: {"; ".join(left_out)}')
    return workloads, left_out


def _shipped_policy() -> Path:
    from sqap_vla_ros.resources import find_resource

    return find_resource('policies/small/config.json').parent
