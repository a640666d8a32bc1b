"""
Compress a policy, run it on a camera image, and save a picture of the visual tokens that it kept.

    python examples/compress_and_run.py --output out/example

The policy is the small one that ships with the package. The image, the state and the camera are
those of one moment of the simulated arm.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from sqap_vla_ros import (
    compress,
    draw_overlays,
    find_resource,
    load_policy,
    load_recipe,
    Observation,
    PinholeCamera,
    RuntimeOptions,
)

IMAGE = Path(__file__).parent / 'camera.png'
STATE = np.array([-0.0545, 0.5245, 0.2150, 1.0], np.float32)
"""End effector x, y, z in the base frame, metres, and gripper, 0 open .. 1 closed."""
CAMERA = PinholeCamera(
    intrinsics=np.array([[231.76, 0, 96], [0, 231.76, 96], [0, 0, 1.0]]),
    optical_from_base=np.array(
        [
            [0.573576, 0.819152, 0, -0.584878],
            [0.504320, -0.353129, -0.788011, 0.355305],
            [-0.645501, 0.451984, -0.615661, 0.788870],
            [0, 0, 0, 1],
        ]
    ),
    width=192,
    height=192,
)
"""Where the camera is, so that the tokens around the end effector can be kept. May be left out."""
PERIOD_NS = 200_000_000
"""Time from one observation to the next."""


def main() -> None:
    """Compress, load, run, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--output', type=Path, default=Path('out/example'))
    parser.add_argument('--recipe', default='sqap_w4a4_prune40')
    parser.add_argument('--instruction', default='press the red button')
    parser.add_argument('--device', default='cpu')
    arguments = parser.parse_args()

    # 1. A float policy directory and a recipe make a compressed policy directory.
    recipe = load_recipe(arguments.recipe)
    directory = arguments.output / recipe.name
    report = compress(find_resource('policies/small'), directory, recipe)
    print(
        f'{directory}: {report.layers} layers quantized, '
        f'{report.float_bytes / 1e6:.1f} MB -> {report.packed_bytes / 1e6:.1f} MB'
    )

    # 2. The compressed directory is all that is needed to run the policy.
    policy = load_policy(directory, runtime=RuntimeOptions(device=arguments.device))
    print(f'cameras: {policy.spec.cameras}, state: {policy.spec.state_names}')

    # 3. This recipe ranks tokens by the attention of earlier inferences, so the first inference
    #    after a reset keeps all tokens.
    image = np.array(Image.open(IMAGE).convert('RGB'))
    policy.reset()
    for step in range(3):
        observation = Observation(
            images={'camera': image},
            instruction=arguments.instruction,
            state=STATE,
            cameras={'camera': CAMERA},
            end_effector_m=STATE[:3].astype(np.float64),
            stamp_ns=step * PERIOD_NS,
        )
        inference = policy.predict(observation)
        total_ms = inference.latencies_ms['total']
        print(f'{inference.tokens_kept} of {inference.tokens} tokens, {total_ms:.1f} ms')

    # 4. A chunk has one row for each `step_s` from the observation's stamp on.
    chunk = inference.chunk
    assert chunk.finite, 'a chunk with NaN or infinities must not reach a robot'
    columns = [f'{name} ({unit})' for name, unit in zip(chunk.spec.names, chunk.spec.units)]
    print('time (s)', *(f'{column:>14}' for column in columns))
    for row, values in enumerate(chunk.values):
        print(f'{row * chunk.spec.step_s:8.2f}', *(f'{value:+14.3f}' for value in values))

    # 5. Kept tokens are framed by the criterion that kept them, pruned ones are dark.
    picture = draw_overlays(
        observation.images, inference.selection, observation.cameras, observation.end_effector_m
    )
    path = arguments.output / 'kept_tokens.png'
    Image.fromarray(picture).save(path)
    print(f'{path}: attention (orange), near the gripper (green), coverage (blue)')


if __name__ == '__main__':
    main()
