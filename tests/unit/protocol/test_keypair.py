"""The rotation of key pairs, against the kernel's rules and a random walk."""

from hypothesis import given
from hypothesis import strategies as st

from wgpy.protocol.keypair import KeyPairs


def slots(pairs):
    return pairs.previous, pairs.current, pairs.next


def filled(previous=None, current=None, next_=None):
    pairs = KeyPairs()
    pairs.previous, pairs.current, pairs.next = previous, current, next_
    return pairs


def test_initiator_moves_current_to_previous():
    pairs = filled("p", "c")
    assert pairs.install_current("new") == ["p"]
    assert slots(pairs) == ("c", "new", None)


def test_initiator_keeps_an_unconfirmed_next_as_previous():
    pairs = filled("p", "c", "n")
    assert pairs.install_current("new") == ["p", "c"]
    assert slots(pairs) == ("n", "new", None)


def test_responder_puts_it_next_and_drops_previous():
    pairs = filled("p", "c", "n")
    assert pairs.install_next("new") == ["n", "p"]
    assert slots(pairs) == (None, "c", "new")


def test_confirmation_moves_all_up():
    pairs = filled("p", "c", "n")
    assert pairs.confirm("n") == ["p"]
    assert slots(pairs) == ("c", "n", None)


def test_confirming_another_pair_changes_nothing():
    pairs = filled("p", "c", "n")
    for other in ("p", "c", "stranger"):
        assert pairs.confirm(other) == []
    assert slots(pairs) == ("p", "c", "n")
    assert filled().confirm(None) == []


def test_first_pairs():
    pairs = KeyPairs()
    assert pairs.install_next("a") == []
    assert pairs.confirm("a") == []
    assert pairs.install_current("b") == []
    assert slots(pairs) == ("a", "b", None)
    assert pairs.pairs() == ["a", "b"]


def test_clear_returns_all():
    pairs = filled("p", "c", "n")
    assert pairs.clear() == ["p", "c", "n"]
    assert pairs.clear() == []


@given(st.lists(st.sampled_from(["current", "next", "confirm", "clear"]), max_size=40))
def test_no_pair_is_lost_or_dropped_twice(moves):
    pairs, made, dropped = KeyPairs(), [], []
    for move in moves:
        if move == "confirm":
            dropped += pairs.confirm(pairs.next)
        elif move == "clear":
            dropped += pairs.clear()
        else:
            made.append(object())
            install = pairs.install_current if move == "current" else pairs.install_next
            dropped += install(made[-1])
        held = pairs.pairs()
        assert len(held) <= 3
        assert sorted(map(id, dropped + held)) == sorted(map(id, made))
