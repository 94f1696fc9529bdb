"""A graph without what is constant and what undoes itself, and with the same numbers.

The exporter's own choice of rules is not used: it takes a constant within 1e-8 of 0 for 0 and one within 1e-5 of 1 for
1, and so leaves out the 1e-8 of `1 / (x + 1e-8)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

EXACT = ("cast_cast_rule", "no_op_cast_rule", "no_op_expand_rule", "flatten_to_reshape_rule", "reshape_reshape_rule",
         "slice_split_rule", "no_op_transpose_rule", "transpose_transpose_rule", "unsqueeze_unsqueeze_rule",
         "squeeze_reshape_1d_rule", "collapse_slice_rule", "collapse_slice2_rule", "materialize_reshape_shape_rule",
         "one_reshape_matmul_reshape_rule", "two_reshapes_matmul_reshape_rule", "cast_constant_of_shape_rule")


def simplify(model: ir.Model) -> None:
    """Fold constants and apply the rules that change no number, in place."""
    import onnx_ir as ir
    import onnx_ir.passes.common as common
    from onnxscript.optimizer import fold_constants_ir
    from onnxscript.rewriter import rewrite
    from onnxscript.rewriter.rules import common as known

    common.InlinePass()(model)
    for _ in range(2):
        fold_constants_ir(model)
        rewrite(model, [getattr(known, name) for name in EXACT if hasattr(known, name)])
    ir.passes.Sequential(
        common.RemoveUnusedNodesPass(), common.RemoveUnusedFunctionsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(), common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(), common.OutputFixPass(), common.NameFixPass())(model)
