"""scipy.optimize: iterations are refused, test functions and constraints are followed.

The derivative of a result that an iteration stops at by its size is that of the iterate, which need not
be near to that of the limit. The latter comes from the equation that the limit satisfies.
"""

from nbhvp.trace.answers import refuses

__all__: list[str] = []

refuses(
    "anderson", "basinhopping", "bisect", "brent", "brenth", "brentq", "broyden1", "broyden2", "brute",
    "curve_fit", "diagbroyden", "differential_evolution", "direct", "dual_annealing", "excitingmixing",
    "fixed_point", "fmin", "fmin_bfgs", "fmin_cg", "fmin_l_bfgs_b", "fmin_ncg", "fmin_powell", "fminbound",
    "fsolve", "golden", "isotonic_regression", "least_squares", "leastsq", "linearmixing", "linprog",
    "lsq_linear", "milp", "minimize", "minimize_scalar", "newton", "newton_krylov", "nnls", "ridder",
    "root", "root_scalar", "shgo", "toms748",
    within="scipy.optimize",
    why="it iterates to a tolerance, so its number of steps depends on x",
    instead="give it a rule by the equation that its result satisfies (nbhvp.custom_jvp)",
    is_final=True,
)  # fmt: skip
refuses(
    "approx_fprime", "check_grad",
    within="scipy.optimize",
    why="derivatives of finite differences are inaccurate",
    instead="write the derivative as a formula",
    is_final=True,
)  # fmt: skip
