"""Receptive fields: what the gradient finds is what the layers' sizes say."""

from __future__ import annotations

import numpy as np
import pytest

from vgg.nets import NETS, blocks
from vgg.receptive import net_field, stack_field


def by_arithmetic(net: str) -> int:
    """The side of the field of a net's last convolution: each layer adds its kernel less 1, times its stride."""
    side, step = 1, 1
    for number, block in enumerate(blocks(net)):
        if number:
            side, step = side + step, 2 * step  # the pooling before the block
        side += sum((layer.kernel - 1) * step for layer in block if layer.kernel)
    return side


@pytest.mark.parametrize("net", NETS)
def test_the_field_of_a_net_is_what_its_kernels_and_poolings_add_up_to(net: str) -> None:
    assert net_field(net) == (blocks(net)[-1][-1].name, by_arithmetic(net))


@pytest.mark.parametrize(("kernels", "side"), [((3,), 3), ((3, 3), 5), ((3, 3, 3), 7), ((7,), 7), ((5, 1), 5)])
def test_stacked_layers_see_a_square_in_the_middle(kernels: tuple[int, ...], side: int) -> None:
    seen = stack_field(kernels, 11) > 0
    margin = (11 - side) // 2
    expected = np.zeros((11, 11), bool)
    expected[margin : margin + side, margin : margin + side] = True
    assert (seen == expected).all()


def test_a_stack_of_three_looks_most_at_the_middle_and_one_large_layer_everywhere_alike() -> None:
    three, one = stack_field((3, 3, 3), 9), stack_field((7,), 9)
    assert three.sum() == pytest.approx(1) and one.sum() == pytest.approx(1)
    assert three.argmax() == 4 * 9 + 4 and three.max() > 40 * three[three > 0].min()
    assert np.ptp(one[one > 0]) == pytest.approx(0)


def test_a_field_that_an_input_is_too_small_for_is_refused() -> None:
    with pytest.raises(ValueError, match="reaches the border of 7 x 7 pixels"):
        stack_field((7,), 7)
