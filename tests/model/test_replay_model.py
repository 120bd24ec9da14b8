"""The replay window against a set of everything that was ever accepted."""

from hypothesis import given, settings
from hypothesis import strategies as st

from wgpy.datapath.replay import ReplayWindow

USABLE = 8128


class Model:
    """Remembers every counter."""

    def __init__(self):
        self.seen = set()
        self.greatest = -1

    def accept(self, counter):
        if counter in self.seen or self.greatest - counter > USABLE:
            return False
        self.seen.add(counter)
        self.greatest = max(self.greatest, counter)
        return True


# Steps that matter: a neighbour, a word of 64, the window, and far away; forwards and back.
steps = st.one_of(
    st.integers(-3, 3),
    st.integers(-130, 130),
    st.sampled_from([63, 64, 65, 8127, 8128, 8129, 8191, 8192, 8193]).flatmap(
        lambda step: st.sampled_from([step, -step])
    ),
    st.integers(-20_000, 20_000),
    st.integers(0, 2**62),
)


@given(st.integers(0, 3), st.lists(steps, max_size=80))
@settings(max_examples=300, deadline=None)
def test_the_window_agrees_with_a_set(start, moves):
    window, model = ReplayWindow(), Model()
    counter = start
    for move in moves:
        counter = min(max(counter + move, 0), 2**64 - 1)
        assert window.accept(counter) == model.accept(counter)


@given(st.permutations(range(150)), st.integers(0, 2**63))
@settings(max_examples=100, deadline=None)
def test_any_order_inside_the_window_is_accepted_exactly_once(order, base):
    window = ReplayWindow()
    assert all(window.accept(base + number) for number in order)
    assert not any(window.accept(base + number) for number in order)
