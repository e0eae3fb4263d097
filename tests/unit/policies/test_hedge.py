"""Hedge: after which time another call is made."""

from daglite.policies import Hedge


def test_defaults():
    """The defaults are those of the documentation; a whole dump can be read."""
    policy = Hedge("200ms")
    fields = {"delay": 0.2, "quantile": None, "max_hedges": 1}
    assert policy.model_dump(exclude_unset=False) == fields
    assert Hedge(**fields) == policy


def test_the_choice_of_the_stronger():
    """A delay takes the place of a quantile, and the other way round."""
    by_delay, by_share = Hedge(1, max_hedges=3), Hedge(quantile=0.9)
    assert by_share.merged_over(by_delay) == Hedge(quantile=0.9, max_hedges=3)
    assert by_delay.merged_over(by_share) == by_delay
    assert Hedge(2).merged_over(by_share).merged_over(by_delay) == Hedge(2, max_hedges=3)
