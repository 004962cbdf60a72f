"""Laws of fault sets and their mixtures, against all sets of few sites."""

import math

import numpy as np
import pytest
from exact import fault_sets, set_probabilities
from scipy import stats

from neurosim.sampling import CutLaw, FaultLaw, Mixture, count_law

SITES = 9
UNEQUAL = np.array([0.5, 0.02, 0.02, 0.3, 0.3, 0.3, 0.9, 0.02, 0.3])


def conditioned(probability, least):
    """The exact law over `fault_sets`, given at least so many faults."""
    chances = set_probabilities(len(probability), probability)
    chances = np.where(fault_sets(len(probability)).sum(axis=1) >= least, chances, 0)
    return chances / chances.sum()


def flat(sets):
    """Rows of bits as (offsets, sites)."""
    rows, sites = np.nonzero(sets)
    return np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(sets)))]), sites


def numbers(offsets, sites):
    """Which row of `fault_sets` each set is."""
    bits = np.append(1 << sites, 0)
    return np.add.reduceat(bits, offsets[:-1]) * (np.diff(offsets) > 0)


def p_value(drawn, chances):
    """Of the chi-square test, sets that are expected less than 10 times taken together."""
    observed, expected = np.bincount(drawn, minlength=len(chances)), chances * len(drawn)
    many = expected >= 10
    o, e = np.append(observed[many], observed[~many].sum()), np.append(expected[many], 0)
    e[-1] = len(drawn) - e.sum()
    keep = e > 1e-6
    return stats.chisquare(o[keep], e[keep] * o[keep].sum() / e[keep].sum()).pvalue


@pytest.mark.parametrize("probability", [UNEQUAL, np.full(SITES, 1e-7), np.full(SITES, 0.5)])
def test_count_law_is_that_of_all_sets(probability):
    sizes = fault_sets(SITES).sum(axis=1)
    exact = np.bincount(sizes, set_probabilities(SITES, probability))
    np.testing.assert_allclose(count_law(probability, SITES), exact, rtol=1e-12)


def test_count_law_of_no_site_is_certain():
    assert count_law(np.empty(0)).tolist() == [1.0]


def test_counts_far_beyond_the_mean_keep_their_precision():
    law = count_law(np.full(500, 1e-6), least=6)
    assert law[6] == pytest.approx(math.comb(500, 6) * 1e-36 * (1 - 1e-6) ** 494, rel=1e-11)


@pytest.mark.parametrize("least", [0, 1, 2, 5])
def test_sets_are_drawn_from_the_law_given_their_least_size(least):
    # False-alarm rate 1e-6 a case. 200 000 draws see a wrong class of sites: the control below.
    law = FaultLaw(probability=UNEQUAL, least=least)
    offsets, sites = law.draw(7, 2**31, 0, 200_000)
    assert (np.diff(offsets) >= least).all()
    assert p_value(numbers(offsets, sites), conditioned(UNEQUAL, least)) > 1e-6
    other = UNEQUAL.copy()
    other[0] = 0.52
    assert p_value(numbers(offsets, sites), conditioned(other, least)) < 1e-6


def test_many_expected_faults_are_drawn_site_by_site():
    p = np.concatenate([np.full(700, 0.1), np.full(100, 0.5)])
    offsets, sites = FaultLaw(probability=p, least=2).draw(1, 2**31, 0, 4000)
    counts = np.bincount(sites, minlength=800)
    z = (counts - 4000 * p) / np.sqrt(4000 * p * (1 - p))
    assert np.abs(z).max() < stats.norm.isf(1e-6 / 800)
    sizes = np.diff(offsets)
    spread = np.sqrt((p * (1 - p)).sum())
    assert abs(sizes.mean() - p.sum()) < 5 * spread / np.sqrt(4000)
    assert sizes.std() == pytest.approx(spread, rel=5 / np.sqrt(2 * 4000))


def test_draws_depend_on_their_numbers_only():
    law = FaultLaw(probability=UNEQUAL, least=2)
    offsets, sites = law.draw(3, 2**31, 0, 50)
    later, rest = law.draw(3, 2**31, 20, 30)
    assert np.array_equal(np.diff(later), np.diff(offsets)[20:])
    assert np.array_equal(rest, sites[offsets[20] :])
    assert not np.array_equal(law.draw(4, 2**31, 0, 50)[1], sites)
    assert not np.array_equal(law.draw(3, 2**31 + 1, 0, 50)[1], sites)


@pytest.mark.parametrize("least", [0, 1, 3])
def test_ratios_are_those_of_the_exact_laws(least):
    laws = [np.full(SITES, 0.05), UNEQUAL, np.where(np.arange(SITES) < 3, 0.7, 1e-3)]
    mixture = Mixture(laws=tuple(FaultLaw(probability=p, least=least) for p in laws))
    sets = fault_sets(SITES)
    some = sets.sum(axis=1) >= least
    ratios = mixture.log_ratios(*flat(sets[some]))
    true = set_probabilities(SITES, laws[0])[some]
    for c, p in enumerate(laws):
        np.testing.assert_allclose(np.exp(ratios[:, c]) * true, conditioned(p, least)[some])


@pytest.mark.parametrize("least", [0, 2])
def test_weights_make_the_mixture_the_true_law(least):
    # Exactly: sum over c of share_c q_c(S) weight(S) = p(S) for every set.
    laws = [np.full(SITES, 0.05), UNEQUAL, np.where(np.arange(SITES) < 3, 0.7, 1e-3)]
    mixture = Mixture(laws=tuple(FaultLaw(probability=p, least=least) for p in laws))
    sets = fault_sets(SITES)
    some = sets.sum(axis=1) >= least
    shares = np.array([0.1, 0.6, 0.3])
    weights = mixture.weights(shares, mixture.log_ratios(*flat(sets[some])))
    drawn = sum(a * conditioned(p, least)[some] for a, p in zip(shares, laws, strict=True))
    np.testing.assert_allclose(drawn * weights, set_probabilities(SITES, laws[0])[some])
    assert weights.max() <= mixture.laws[0].mass / shares[0] * (1 + 1e-12)


def test_a_mixture_draws_each_law_its_number_of_sets():
    laws = (
        FaultLaw(probability=np.full(4, 1e-9), least=1),
        FaultLaw(probability=np.full(4, 1 - 1e-9), least=1),
    )
    offsets, _ = Mixture(laws=laws).draw([3, 2], 1, 2**31, 0)
    assert np.diff(offsets).tolist() == [1, 1, 1, 4, 4]


def test_laws_between_two_numbers_of_faults_are_strata():
    """Exact masses, only sets of so many faults, and weights that are mass over share."""
    sizes = fault_sets(SITES).sum(axis=1)
    chances = set_probabilities(SITES, UNEQUAL)
    laws = [
        FaultLaw(probability=UNEQUAL, least=low, most=high)
        for low, high in ((2, 2), (3, 4), (5, 9))
    ]
    shares = np.array([0.5, 0.2, 0.3])
    for number, law in enumerate(laws):
        held = (sizes >= law.least) & (sizes <= law.most)
        assert law.mass == pytest.approx(chances[held].sum(), rel=1e-12)
        offsets, sites = law.draw(5, 77, 0, 30_000)
        assert (np.diff(offsets) >= law.least).all()
        assert (np.diff(offsets) <= law.most).all()
        p = p_value(numbers(offsets, sites), np.where(held, chances, 0) / chances[held].sum())
        assert p > 1e-6
        mixture = Mixture(laws=tuple(laws))
        weights = mixture.weights(shares, mixture.log_ratios(offsets, sites))
        np.testing.assert_allclose(weights, law.mass / shares[number], rtol=1e-12)


CUTS = ((0, 3), (3, 6), (1, 2, 4), (0, 3, 6), (8,))


def cut_law(cuts=CUTS, probability=UNEQUAL):
    sizes = [len(cut) for cut in cuts]
    return CutLaw(
        probability=probability,
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        sites=np.concatenate(cuts),
    )


def with_cuts(cuts=CUTS, probability=UNEQUAL):
    """How many cuts each of `fault_sets` holds, and the exact law: that number times the chance."""
    held = sum(fault_sets(SITES)[:, list(cut)].all(axis=1).astype(int) for cut in cuts)
    chances = held * set_probabilities(SITES, probability)
    return held, chances / chances.sum()


def test_cuts_are_drawn_with_the_faults_that_come_with_them():
    # False-alarm rate 1e-6. 200 000 draws see a cut that is missing.
    offsets, sites = cut_law().draw(7, 2**31, 0, 200_000)
    assert all((np.diff(part) > 0).all() for part in np.split(sites, offsets[1:-1])[:1000])
    drawn = numbers(offsets, sites)
    assert p_value(drawn, with_cuts()[1]) > 1e-6
    assert p_value(drawn, with_cuts(CUTS[:3] + CUTS[4:])[1]) < 1e-6
    later, rest = cut_law().draw(7, 2**31, 150, 50)
    assert np.array_equal(rest, sites[offsets[150] : offsets[200]])
    assert np.array_equal(later, offsets[150:201] - offsets[150])


def test_the_ratio_of_cuts_is_that_of_the_exact_law():
    sets = flat(fault_sets(SITES))
    held, law = with_cuts()
    assert cut_law().held(*sets).tolist() == held.tolist()
    true = set_probabilities(SITES, UNEQUAL)
    np.testing.assert_allclose(np.exp(cut_law().log_ratios(*sets)) * true, law, rtol=1e-12)


def test_chances_of_cuts_far_below_the_smallest_number():
    law = cut_law(((0, 1, 2), (3, 4, 5)), np.full(SITES, 1e-150))
    ratios = law.log_ratios(np.array([0, 3]), np.array([0, 1, 2]))
    assert ratios[0] == pytest.approx(450 * np.log(10) - np.log(2), rel=1e-12)


def test_weights_with_cuts_make_the_mixture_the_true_law():
    laws = [np.full(SITES, 0.05), UNEQUAL]
    p = laws[0]
    mixture = Mixture(
        laws=tuple(FaultLaw(probability=q, least=1) for q in laws), cuts=cut_law(probability=p)
    )
    sets = fault_sets(SITES)
    some = sets.sum(axis=1) >= 1
    shares = np.array([0.1, 0.3, 0.6])
    weights = mixture.weights(shares, mixture.log_ratios(*flat(sets[some])))
    every = [conditioned(p, 1), conditioned(UNEQUAL, 1), with_cuts(probability=p)[1]]
    drawn = sum(a * law[some] for a, law in zip(shares, every, strict=True))
    np.testing.assert_allclose(drawn * weights, set_probabilities(SITES, p)[some])
    offsets, sites = mixture.draw([0, 0, 40], 7, 2**31, 0)
    assert (mixture.cuts.held(offsets, sites) > 0).all()
