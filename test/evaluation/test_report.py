"""Reports: what episodes say, as tables and plots; wrong files are named."""
import json

from hypothesis import given, strategies as st
import numpy as np
import pytest

from sqap_vla_ros.cli import main
from sqap_vla_ros.errors import UserError
from sqap_vla_ros.evaluation.confidence import holm
from sqap_vla_ros.evaluation.plots import draw_plots, points_of, rule
from sqap_vla_ros.evaluation.report import markdown
from sqap_vla_ros.evaluation.results import read_results
from sqap_vla_ros.evaluation.summary import summarise

SHARES = {'full': 0.95, 'w4a4': 0.9, 'w8a8': 0.95, 'naive_w4a4': 0.7, 'attention_prune60': 0.5,
          'random_prune60': 0.6, 'combined_prune60': 0.9, 'naive_w4a4_prune60': 0.3}


def episode(variant, seed, succeeded, baseline='none', **fields):
    task = ('press_red', 'open_drawer')[seed % 2]
    return {'variant': variant, 'baseline': baseline, 'task': task, 'seed': seed,
            'succeeded': succeeded, 'wrong': not succeeded, 'duration_s': 2.5,
            'inferences': 9, 'tokens_kept': 100.0, 'jerk_m_s3': 8.0, 'pauses': 0, 'paused_s': 0.0,
            'latency_ms': {'vision': 4.0, 'total': 20.0}, **fields}


def write(path, episodes, policy='policies/small', **experiment):
    path.write_text(json.dumps({'experiment': {'policy': policy, **experiment}, 'variants': [],
                                'episodes': episodes}))
    return path


@pytest.fixture
def episodes():
    """80 episodes of each variant, with other outcomes for each."""
    rng = np.random.default_rng(0)
    return [episode(variant, seed, bool(rng.random() < share))
            for variant, share in SHARES.items() for seed in range(80)]


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
    second = write(tmp_path / 'b.json', episodes[200:] + [
        episode('full', 0, False, 'shuffled_image')])
    merged = read_results([first, second])
    assert list(merged) == ['none', 'shuffled_image']
    assert len(merged['none']) == len(episodes) and len(merged['shuffled_image']) == 1


@pytest.mark.parametrize('content, told', [
    ('nonsense', 'no JSON'), ('[]', '"experiment"'), ('{"experiment": {}}', '"policy"'),
    ('{"experiment": {"policy": "p"}}', '"episodes"'),
    ('{"experiment": {"policy": "p"}, "episodes": [{"variant": "full"}]}',
     r"episodes\[0\]: 'baseline'")])
def test_a_wrong_file_is_named_with_its_field(tmp_path, content, told):
    path = tmp_path / 'wrong.json'
    path.write_text(content)
    with pytest.raises(UserError, match=rf'wrong\.json: .*{told}'):
        read_results([path])
    with pytest.raises(UserError, match=r'absent\.json: No such file'):
        read_results([tmp_path / 'absent.json'])


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
    assert '`combined_prune60`' in against and '`random_prune60`' in against
    assert '`w4a4`' not in against, 'compared with what prunes as much, and nothing else'
    assert '`w4a4`' in text.split('## Against `full`, paired')[1].split('## ')[0]
    assert '| 2.50 | 64 |' in text.split('## Motion and time')[1]


def test_plots_are_drawn_where_there_is_data_and_of_recipes(tmp_path, episodes):
    summaries = summarise(episodes)
    written = draw_plots(summaries, tmp_path)
    assert sorted(written.values()) == ['bits.png', 'pruning.png']
    assert all((tmp_path / file).read_bytes()[:4] == b'\x89PNG' for file in written.values())
    assert draw_plots(summarise([episode('full', 1, True)]), tmp_path) == {}
    rules = {rule(p.recipe.pruning) for p in points_of(summaries) if p.recipe.pruning}
    assert rules == {'attention', 'random', 'attention of earlier steps + robot + positions'}


def test_the_verb_writes_markdown_and_plots(tmp_path, episodes, capsys):
    results, output = write(tmp_path / 'a.json', episodes), tmp_path / 'report'
    assert main(['report', str(results), '--output', str(output)]) == 0
    text = (output / 'report.md').read_text()
    assert 'pruning.png' in text and (output / 'pruning.png').exists()
    assert main(['report', str(tmp_path / 'none.json')]) == 2
    assert 'none.json' in capsys.readouterr().err


def test_kept_tokens_are_drawn_for_the_variants_that_prune(tmp_path, random_policy):
    pytest.importorskip('mujoco')
    pytest.importorskip('metaworld')
    from sqap_vla_ros.evaluation.token_pictures import draw_kept_tokens

    written = draw_kept_tokens(random_policy, ['full', 'combined_prune80'],
                               ['press_red', 'press_blue'], tmp_path)
    assert (tmp_path / written['Kept visual tokens']).stat().st_size > 10_000
    assert draw_kept_tokens(random_policy, ['full'], ['press_red'], tmp_path) == {}
