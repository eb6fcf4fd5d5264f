"""Force matching: the law of gravity from the orbits of eight planets and of Jupiter's moons."""

import matplotlib.pyplot as plt
import numpy as np

import nbhvp

# Half major axes, speeds: AU, degrees per century (Standish); 1000 km, days (NASA's fact sheets).
planets = """0.387099 149472.674  0.723336 58517.815  1.000003 35999.372  1.523710 19140.303
    5.202887 3034.746  9.536676 1222.494  19.189165 428.482  30.069923 218.459"""
moons = "421.8 1.769138  671.1 3.551181  1070.4 7.154553  1882.7 16.689017"
r, speed = np.array(planets.split(), float).reshape(-1, 2).T
near, days = np.array(moons.split(), float).reshape(-1, 2).T
r = np.append(r, near / 149597.871)
pull = r * np.radians(np.append(speed / 100, 360 * 365.25 / days)) ** 2  # per year²
centre = np.repeat([0, 1], [8, 4])  # the Sun, Jupiter


@nbhvp.differentiable
def energy(r, c):  # per mass; c holds the logarithms of both centres' strengths, and an exponent
    return -np.sum(np.exp(c[centre]) * r ** -c[2])


@nbhvp.differentiable
def mismatch(c):  # of the forces, by the gradient of the energy
    return np.sum((energy.grad(r, c) / pull - 1) ** 2)


fit = nbhvp.minimize(mismatch, np.array([1.0, 1.0, 0.5]), method="trust-exact")
covariance = 2 * fit.fun / (12 - 3) * np.linalg.inv(mismatch.hessian(fit.x).toarray())

figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
for k, name in enumerate(("planets", "moons of Jupiter")):
    axes.loglog(r[centre == k], pull[centre == k], f"C{k}o", label=name)
    axes.loglog(r[centre == k], energy.grad(r, fit.x)[centre == k], f"C{k}-")
law = f"exponent {-fit.x[2] - 1:.4f} ± {np.sqrt(covariance[2, 2]):.4f}"
law += f", the Sun {np.exp(fit.x[0] - fit.x[1]):.0f} times Jupiter's mass"
axes.set(xlabel="distance, AU", ylabel="acceleration, AU per year²", title=law)
axes.legend()
