"Where these names were before `ser_nb.lib.calibration` had them all."
from .calibration import (best_temperature, calibrated, even_odds, excess, fit_calibration, fit_temperature, nll,
                          pick_threshold, risk_coverage)

__all__ = ["best_temperature", "calibrated", "even_odds", "excess", "fit_calibration", "fit_temperature", "nll",
           "pick_threshold", "risk_coverage"]
