"""Reports: what episodes say, as tables and plots; wrong files are named."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from sqap_vla_ros.cli import main
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.evaluation.markdown_report import markdown
from sqap_vla_ros.evaluation.plots import draw_plots, points_of, rule
from sqap_vla_ros.evaluation.proportions import holm
from sqap_vla_ros.evaluation.result_files import read_open_loop, read_results
from sqap_vla_ros.evaluation.summary import summarise

SHARES = {
    'full': 0.95,
    'w4a4': 0.9,
    'w8a8': 0.95,
    'naive_w4a4': 0.7,
    'attention_prune60': 0.5,
    'random_prune60': 0.6,
    'sqap_prune60': 0.9,
    'naive_w4a4_prune60': 0.3,
}


def episode(variant, seed, succeeded, baseline='none', **fields):
    task = ('press_red', 'open_drawer')[seed % 2]
    return {
        'variant': variant,
        'baseline': baseline,
        'task': task,
        'seed': seed,
        'succeeded': succeeded,
        'wrong': not succeeded,
        'duration_s': 2.5,
        'inferences': 9,
        'tokens_kept': 100.0,
        'jerk_m_s3': 8.0,
        'pauses': 0,
        'paused_s': 0.0,
        'latency_ms': {'vision': 4.0, 'total': 20.0},
        **fields,
    }


def write(path, episodes, policy='policies/small', **experiment):
    path.write_text(
        json.dumps(
            {'experiment': {'policy': policy, **experiment}, 'variants': [], 'episodes': episodes}
        )
    )
    return path


@pytest.fixture
def episodes():
    """80 episodes of each variant, with other outcomes for each."""
    rng = np.random.default_rng(0)
    return [
        episode(variant, seed, bool(rng.random() < share))
        for variant, share in SHARES.items()
        for seed in range(80)
    ]


def test_weights_in_memory_are_told_where_the_file_has_them(tmp_path):
    old, new = episode('full', 0, True), episode('w4a4', 0, True, weight_bytes=4_980_000)
    text = markdown(read_results([write(tmp_path / 'a.json', [old, new])]), {})
    rows = [
        row.split(' | ')
        for row in text.splitlines()
        if row.startswith(('| variant | median', '| `'))
    ]
    column = next(row for row in rows if 'weights (MB)' in row).index('weights (MB)')
    cells = {row[0]: row[column] for row in rows if len(row) > column}
    assert cells['| `w4a4`'] == '5.0' and cells['| `full`'] == ''
    with pytest.raises(UserError, match="'weight_bytes'"):
        read_results([write(tmp_path / 'b.json', [{**new, 'weight_bytes': 'many'}])])


def test_holm_of_a_worked_example():
    # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1 -> not below the one before.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_never_makes_a_p_value_smaller(values):
    corrected = holm(values)
    assert all(p <= q <= 1 for p, q in zip(values, corrected))
    if values:
        assert min(corrected) == min(1.0, len(values) * min(values))
    order = sorted(range(len(values)), key=values.__getitem__)
    assert [corrected[i] for i in order] == sorted(corrected)


def test_files_are_merged_and_an_episode_counts_once(tmp_path, episodes):
    first = write(tmp_path / 'a.json', episodes[:300])
    second = write(
        tmp_path / 'b.json', [*episodes[200:], episode('full', 0, False, 'shuffled_image')]
    )
    merged = read_results([first, second])
    assert list(merged) == ['none', 'shuffled_image']
    assert len(merged['none']) == len(episodes) and len(merged['shuffled_image']) == 1


@pytest.mark.parametrize(
    'content, told',
    [
        ('nonsense', 'not readable as JSON'),
        ('[]', 'expected a JSON object'),
        ('{"experiment": {}}', '"policy"'),
        ('{"experiment": {"policy": "p"}}', '"episodes"'),
        (
            '{"experiment": {"policy": "p"}, "episodes": [{"variant": "full"}]}',
            r"episodes\[0\]: 'baseline'",
        ),
        ('[' * 100_000, 'nested too deeply'),
    ],
)
def test_a_wrong_file_is_named_with_its_field(tmp_path, content, told):
    path = tmp_path / 'wrong.json'
    path.write_text(content)
    with pytest.raises(UserError, match=rf'wrong\.json: .*{told}'):
        read_results([path])
    with pytest.raises(UserError, match=r'absent\.json: no such file'):
        read_results([tmp_path / 'absent.json'])


@pytest.mark.slow
@given(
    st.sampled_from(sorted(episode('full', 1, True))),
    st.one_of(
        st.none(),
        st.booleans(),
        st.floats(),
        st.text(),
        st.lists(st.integers()),
        st.dictionaries(st.text(max_size=3), st.one_of(st.none(), st.floats())),
    ),
)
@settings(deadline=None)
def test_a_corrupt_field_gives_a_report_or_is_named(tmp_path_factory, name, value):
    path = tmp_path_factory.mktemp('fuzz') / 'a.json'
    write(path, [episode('full', 1, True), {**episode('full', 2, True), name: value}])
    try:
        assert '# Evaluation' in markdown(read_results([path]), {})
    except UserError as error:
        assert f'{path}: episodes[1]' in str(error) and name in str(error)
        assert '\n' not in str(error)


def test_one_policy_by_two_paths_is_one_policy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [
        write(tmp_path / f'{i}.json', [episode('full', i, True)], policy)
        for i, policy in enumerate(('p/small', f'{tmp_path}/p/small'))
    ]
    assert len(read_results(files)['none']) == 2


@pytest.mark.parametrize(
    'protocol, goes',
    [
        ({'delay_s': 0.1, 'executor': {'blend_s': 0.1}}, True),
        ({'delay_s': 0.1, 'executor': {'blend_s': 0.1}, 'new': False}, True),
        ({'delay_s': 0.1, 'executor': {'blend_s': 0.1}, 'new': True}, False),
        ({'delay_s': 0.1, 'executor': {'blend_s': 0.2}}, False),
        (None, False),
    ],
)
def test_files_of_one_protocol_go_together_and_no_others(tmp_path, protocol, goes):
    first = write(
        tmp_path / 'a.json',
        [episode('full', 1, True)],
        protocol={'delay_s': 0.1, 'executor': {'blend_s': 0.1}},
    )
    second = write(tmp_path / 'b.json', [episode('full', 2, True)], protocol=protocol)
    for files in ([first, second], [second, first]):
        if goes:
            assert len(read_results(files)['none']) == 2
        else:
            with pytest.raises(UserError, match='protocol differ'):
                read_results(files)


def test_files_that_do_not_go_together_are_refused(tmp_path):
    first = write(tmp_path / 'a.json', [episode('full', 1, True)])
    with pytest.raises(UserError, match='policy or protocol differ'):
        read_results([first, write(tmp_path / 'b.json', [], policy='another')])
    with pytest.raises(UserError, match='ended otherwise'):
        read_results([first, write(tmp_path / 'c.json', [episode('full', 1, False)])])


def test_tables_hold_success_intervals_and_corrected_comparisons(episodes):
    text = markdown({'none': episodes}, {})
    successes = sum(e['succeeded'] for e in episodes if e['variant'] == 'full')
    full = next(line for line in text.splitlines() if line.startswith('| `full` |'))
    assert f'{100 * successes / 80:.0f} % [' in full and full.endswith('| 80 |')
    against = text.split('## Against `attention_prune60`, paired')[1].split('## ')[0]
    assert '`sqap_prune60`' in against and '`random_prune60`' in against
    assert '`w4a4`' not in against, 'compared with what prunes as much, and nothing else'
    assert '`w4a4`' in text.split('## Against `full`, paired')[1].split('## ')[0]
    assert '| 2.50 | 64 |' in text.split('## Motion and time')[1]


def test_a_baseline_is_compared_with_the_same_bits_and_share_only(episodes):
    episodes += [episode('w4a4_of_before', seed, True) for seed in range(80)]
    text = markdown({'none': episodes}, {})
    rows = {part.split('`')[0]: part for part in text.split('## Against `')[1:]}
    assert set(rows) == {'attention_prune60', 'full', 'naive_w4a4', 'random_prune60'}
    assert '| `w4a4` |' in rows['naive_w4a4'] and '_prune' not in rows['naive_w4a4']
    assert '| `w4a4_of_before` |' in rows['full']
    assert 'recipes were not found: `w4a4_of_before`' in text


@pytest.mark.slow
def test_plots_are_drawn_where_there_is_data_and_of_recipes(tmp_path, episodes):
    summaries = summarise(episodes)
    written = draw_plots(summaries, tmp_path)
    assert sorted(written.values()) == ['bits.png', 'pruning.png']
    assert all((tmp_path / file).read_bytes()[:4] == b'\x89PNG' for file in written.values())
    assert draw_plots(summarise([episode('full', 1, True)]), tmp_path) == {}
    rules = {rule(p.recipe.pruning) for p in points_of(summaries) if p.recipe.pruning}
    assert rules == {'attention', 'random', 'attention of earlier steps + robot + positions'}


def test_vision_in_other_bits_is_another_line_and_bits_are_in_order(monkeypatch, tmp_path):
    from sqap_vla_ros.evaluation import plots

    figures = {}
    monkeypatch.setattr(
        plots.Figure, 'savefig', lambda figure, path, dpi: figures.update({path.name: figure})
    )
    names = (
        'w8a8',
        'w4a16',
        'w4a4',
        'naive_w2a4',
        'sqap_w4a4_prune40',
        'sqap_w4a4_prune60',
        'sqap_w4a4_vision8_prune40',
    )
    draw_plots(summarise([episode(name, 1, True) for name in names]), tmp_path)
    labels = figures['bits.png'].axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == ['W2A4', 'W4A4', 'W4A16', 'W8A8']
    lines = {
        container.get_label(): len(container.lines[0].get_xdata())
        for container in figures['pruning.png'].axes[0].containers
    }
    assert lines == {
        'attention of earlier steps + robot + positions': 3,
        'attention of earlier steps + robot + positions, vision in 8 bits': 1,
    }


def open_loop_file(path, **fields):
    results = {
        'frames': 5,
        'action_error': {'x (m/s)': 0.0125},
        'attention_overlap': 0.75,
        'layer_error': {'a': 0.1, 'b': 0.3},
        **fields,
    }
    path.write_text(
        json.dumps(
            {'experiment': {'policy': 'p', 'tasks': ['press_red']}, 'open_loop': {'w4a4': results}}
        )
    )
    return path


@pytest.mark.slow
def test_open_loop_files_get_a_section_beside_episodes(tmp_path, episodes):
    files = [write(tmp_path / 'a.json', episodes), open_loop_file(tmp_path / 'b.json')]
    assert main(['report', *map(str, files), '--output', str(tmp_path)]) == 0
    text = (tmp_path / 'report.md').read_text()
    assert '## Success' in text and '## Open loop: press_red' in text
    assert '| `w4a4` | 0.0125 | 75 % | 0.200 | 0.300 | `b` |' in text and 'on 5 frames' in text
    for name in ('frames', 'action_error', 'attention_overlap', 'layer_error'):
        with pytest.raises(UserError, match=rf"wrong\.json: open_loop: w4a4: '{name}'"):
            read_open_loop([open_loop_file(tmp_path / 'wrong.json', **{name: 'much'})])


def test_an_output_that_cannot_be_written_is_told(tmp_path, capsys):
    results = write(tmp_path / 'a.json', [episode('full', 1, True)])
    assert main(['report', str(results), '--output', str(results)]) == 2
    assert capsys.readouterr().err.startswith(f'sqap_vla report: --output {results}: cannot')


@pytest.mark.slow
def test_the_verb_writes_markdown_and_plots(tmp_path, episodes, capsys):
    results, output = write(tmp_path / 'a.json', episodes), tmp_path / 'report'
    assert main(['report', str(results), '--output', str(output)]) == 0
    text = (output / 'report.md').read_text()
    assert 'pruning.png' in text and (output / 'pruning.png').exists()
    assert 'No plot "Kept visual tokens": `--overlays POLICY` draws it' in text
    assert 'No plot "Success' not in text
    assert main(['report', str(tmp_path / 'none.json')]) == 2
    assert 'none.json' in capsys.readouterr().err


@pytest.mark.slow
def test_kept_tokens_are_drawn_for_the_variants_that_prune(tmp_path, random_policy):
    pytest.importorskip('mujoco')
    pytest.importorskip('metaworld')
    from sqap_vla_ros.evaluation.token_pictures import draw_kept_tokens

    lenient = tmp_path / 'lenient.yaml'  # keeps everything while the arm is slow: no selection
    lenient.write_text('pruning: {ratio: 0.8, fine_ratio: 0.0, fine_speed_m_s: 9.0}')
    written = draw_kept_tokens(
        random_policy,
        ['full', 'sqap_prune80', str(lenient), 'a_recipe_of_before'],
        ['press_red', 'press_blue', 'a_task_of_before'],
        tmp_path,
    )
    assert (tmp_path / written['Kept visual tokens']).stat().st_size > 10_000
    assert draw_kept_tokens(random_policy, ['full'], ['press_red'], tmp_path) == {}
