"""Quantizers as modules, one number format a file."""

from aiqvit.quant.quantizers.adaptive_log import AdaptiveLog
from aiqvit.quant.quantizers.base import Float, Half, Quantizer
from aiqvit.quant.quantizers.dual import DualUniform
from aiqvit.quant.quantizers.dynamic import DynamicUniform
from aiqvit.quant.quantizers.focusing import DynamicFocusing
from aiqvit.quant.quantizers.log import Log2, LogSqrt2
from aiqvit.quant.quantizers.shift_log import ShiftUniformLog2
from aiqvit.quant.quantizers.signed import Signed
from aiqvit.quant.quantizers.twin import TwinGelu, TwinSoftmax
from aiqvit.quant.quantizers.uniform import Uniform

__all__ = ["AdaptiveLog", "DualUniform", "DynamicFocusing", "DynamicUniform", "Float", "Half", "Log2",
           "LogSqrt2", "Quantizer", "ShiftUniformLog2", "Signed", "TwinGelu", "TwinSoftmax", "Uniform"]
