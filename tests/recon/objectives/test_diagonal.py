"""The diagonal Fisher weight of each image against gradients by the chain rule, one image at a time."""

import torch

from aiqvit.recon.objectives.diagonal import DiagonalFisher
from tests.recon.objectives.data import explicit, two_data


def test_each_error_is_weighted_by_the_square_of_its_own_gradient():
    data, objective = two_data((4, 2, 4)), DiagonalFisher()
    objective.start(data)
    for rows in ([13, 2, 5], [7, 11]):  # of one shape each
        output = torch.randn(len(rows), (4, 2)[rows[0] == 7], 2, dtype=torch.float64)
        (target,), _ = data.targets.gather(rows)
        expected = torch.stack([(explicit(data, row)[1] * (y - t).flatten()).square()
                                for row, y, t in zip(rows, output, target, strict=True)])
        torch.testing.assert_close(objective.errors(output, target, rows).flatten(1), expected)
