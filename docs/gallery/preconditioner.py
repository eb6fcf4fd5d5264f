"""Newton's method for a logistic regression on raw features, whose scales differ by 10^5."""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

import nbhvp

data = load_breast_cancer()
X = np.column_stack([data.data, np.ones(len(data.data))])
sign = 2.0 * data.target - 1


@nbhvp.differentiable
def loss(w):
    return np.sum(np.logaddexp(0, -sign * (X @ w))) + 1e-3 * (w @ w)


preconditioners = {
    "none": lambda w: nbhvp.identity(31),
    "Jacobi": lambda w: nbhvp.curvature.jacobi(loss.hessian(w)),
    "Nyström, rank 10": lambda w: nbhvp.curvature.nystrom(loss.hessian(w), 10, 2e-3, rng=0),
}
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for name, near_inverse in preconditioners.items():
    path, options = [np.zeros(31)], {"preconditioner": near_inverse, "gtol": 1e-4}
    found = nbhvp.minimize(loss, path[0], (), "newton-pcg", callback=path.append, options=options)
    gaps = np.array([loss(w) for w in path]) - found.fun
    left.semilogy(gaps, label=f"{name}: {found.ncg} products in CG")
    eigenvalues = np.linalg.eigvals(near_inverse(found.x) @ loss.hessian(found.x).toarray()).real
    right.semilogy(np.sort(eigenvalues) / eigenvalues.max(), ".-", label=name)
left.set(xlabel="step", title="loss above the minimum", ylim=(1e-7, None))
right.set(xlabel="eigenvalue", title="spectra at the minimum, scaled")
left.legend()
