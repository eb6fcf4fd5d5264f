"""Bundle adjustment, one of the problems of ADBench: in loops, in arrays, and its product by hand.

Unknowns: cameras of 11 numbers (a rotation r, a centre c, a focal length f, a principal point p and two
coefficients of radial distortion k), points X of 3, and a weight w for each observation. With
y = R(r) (X - c), u = y[:2] / y[2] and s = |u|^2, an observation q adds

    |w (f u (1 + k1 s + k2 s^2) + p - q)|^2 + (1 - w^2)^2.

R is Rodrigues' rotation, c I + A K + B r r^T with c = cos |r|, A = sin |r| / |r|, B = (1 - c) / |r|^2 and
K v = r x v. Observations are sorted by cameras, as the pictures were taken. Srajer, Kukelova and
Fitzgibbon, Optimization Methods and Software 33, 2018.
"""

import math

import numpy as np
from numba import njit

__all__ = ["data", "in_arrays", "in_loops", "prepare"]

_kernel = njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")


def data(cameras=50, points=2000, observations=20_000, seed=0):
    """A point x and the arguments of both forms: a random subset of all pairs is observed."""
    rng = np.random.default_rng(seed)
    pairs = np.sort(rng.choice(cameras * points, observations, replace=False))
    centres = rng.normal(size=(cameras, 3)) * 0.3 - np.array([0.0, 0.0, 8.0])
    others = rng.normal(size=(cameras, 5)) * [0.0, 0.01, 0.01, 0.02, 0.02]
    others[:, 0] = 1.5
    poses = np.hstack([0.2 * rng.normal(size=(cameras, 3)), centres, others])
    weights = 0.9 + 0.1 * rng.random(observations)
    x = np.concatenate([poses.ravel(), 0.5 * rng.normal(size=3 * points), weights])
    seen = 0.2 * rng.normal(size=(observations, 2))
    return x, (pairs // points, pairs % points, seen, cameras, points)


@njit
def in_loops(x, camera, point, seen, cameras, points):
    total = 0.0
    start = 11 * cameras
    weights = start + 3 * points
    for k in range(camera.size):
        c = 11 * camera[k]
        j = start + 3 * point[k]
        a, b, g = x[j] - x[c + 3], x[j + 1] - x[c + 4], x[j + 2] - x[c + 5]
        r0, r1, r2 = x[c], x[c + 1], x[c + 2]
        square = r0 * r0 + r1 * r1 + r2 * r2
        if square > 0.0:
            theta = math.sqrt(square)
            cosine, sine = math.cos(theta), math.sin(theta)
            w0, w1, w2 = r0 / theta, r1 / theta, r2 / theta
            along = (w0 * a + w1 * b + w2 * g) * (1.0 - cosine)
            y0 = a * cosine + (w1 * g - w2 * b) * sine + w0 * along
            y1 = b * cosine + (w2 * a - w0 * g) * sine + w1 * along
            y2 = g * cosine + (w0 * b - w1 * a) * sine + w2 * along
        else:
            y0 = a + r1 * g - r2 * b
            y1 = b + r2 * a - r0 * g
            y2 = g + r0 * b - r1 * a
        u, v = y0 / y2, y1 / y2
        s = u * u + v * v
        distortion = 1.0 + x[c + 9] * s + x[c + 10] * s * s
        e = x[weights + k] * (x[c + 6] * u * distortion + x[c + 7] - seen[k, 0])
        f = x[weights + k] * (x[c + 6] * v * distortion + x[c + 8] - seen[k, 1])
        total += e * e + f * f + (1.0 - x[weights + k] ** 2) ** 2
    return total


def in_arrays(x, camera, point, seen, cameras, points):
    start = 11 * cameras
    cams = x[:start].reshape(cameras, 11)[camera]
    X = x[start : start + 3 * points].reshape(points, 3)[point]
    weight = x[start + 3 * points :]
    r, d = cams[:, :3], X - cams[:, 3:6]
    theta = np.sqrt(np.sum(r * r, axis=1))[:, None]
    w = r / theta
    y = (
        d * np.cos(theta)
        + np.cross(w, d) * np.sin(theta)
        + w * np.sum(w * d, axis=1)[:, None] * (1 - np.cos(theta))
    )
    u = y[:, :2] / y[:, 2:]
    s = np.sum(u * u, axis=1)
    distortion = 1.0 + cams[:, 9] * s + cams[:, 10] * s * s
    e = weight[:, None] * (cams[:, 6:7] * u * distortion[:, None] + cams[:, 7:9] - seen)
    return np.sum(e * e) + np.sum((1.0 - weight**2) ** 2)


def _rotations(r):
    """R, its partials by r, and those of these, camera by camera."""
    square = np.sum(r * r, axis=1)
    theta = np.sqrt(square)
    c, a, b = np.cos(theta), np.sin(theta) / theta, (1 - np.cos(theta)) / square
    # Derivatives by the square of the length.
    c1, a1, b1 = -a / 2, (c - a) / (2 * square), (a / 2 - b) / square
    c2, a2, b2 = -a1 / 2, (c1 - 3 * a1) / (2 * square), (a1 / 2 - 2 * b1) / square
    unit, crosses = np.eye(3), np.cross(np.eye(3)[:, None], np.eye(3)[None]).transpose(0, 2, 1)
    K, outer = np.einsum("nk,kij->nij", r, crosses), np.einsum("ni,nj->nij", r, r)
    outers = np.einsum("ki,nj->nkij", unit, r) + np.einsum("kj,ni->nkij", unit, r)
    scaled = lambda f, g, h: (
        np.multiply.outer(f, unit) + g[..., None, None] * K + h[..., None, None] * outer
    )
    first = np.empty((len(r), 3, 3, 3))
    second = np.empty((len(r), 3, 3, 3, 3))
    for k in range(3):
        of_k = 2 * r[:, k]
        first[:, k] = scaled(c1 * of_k, a1 * of_k, b1 * of_k)
        first[:, k] += np.multiply.outer(a, crosses[k]) + b[:, None, None] * outers[:, k]
        for j in range(3):
            both = of_k * 2 * r[:, j]
            one = 2.0 * (j == k)
            second[:, k, j] = scaled(
                c2 * both + c1 * one, a2 * both + a1 * one, b2 * both + b1 * one
            )
            for m, n in ((k, j), (j, k)):
                of_m = (2 * r[:, m])[:, None, None]
                second[:, k, j] += of_m * (
                    a1[:, None, None] * crosses[n] + b1[:, None, None] * outers[:, n]
                )
            pair = np.outer(unit[k], unit[j])
            second[:, k, j] += np.multiply.outer(b, pair + pair.T)
    return scaled(c, a, b), first, second


@_kernel
def _camera(cam, R, G, rbar, d0, d1, d2, seen0, seen1, w, point, X_dot, v, vw, pulled, wout, out):
    """The product's numbers of one camera and of the weights of its observations, and what each
    observation adds to those of its point."""
    f, k1, k2 = cam[6], cam[9], cam[10]
    x0, x1 = cam[7], cam[8]
    fd, k1d, k2d, x0d, x1d = v[6], v[9], v[10], v[7], v[8]
    Rd = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            Rd[a, b] = G[0, a, b] * v[0] + G[1, a, b] * v[1] + G[2, a, b] * v[2]
    R00, R01, R02, R10, R11, R12, R20, R21, R22 = (
        R[0, 0],
        R[0, 1],
        R[0, 2],
        R[1, 0],
        R[1, 1],
        R[1, 2],
        R[2, 0],
        R[2, 1],
        R[2, 2],
    )
    Q00, Q01, Q02, Q10, Q11, Q12, Q20, Q21, Q22 = (
        Rd[0, 0],
        Rd[0, 1],
        Rd[0, 2],
        Rd[1, 0],
        Rd[1, 1],
        Rd[1, 2],
        Rd[2, 0],
        Rd[2, 1],
        Rd[2, 2],
    )
    c0, c1, c2 = v[3], v[4], v[5]
    A00 = A01 = A02 = A10 = A11 = A12 = A20 = A21 = A22 = 0.0
    sf = sx0 = sx1 = sk1 = sk2 = s0 = s1 = s2 = 0.0
    for i in range(d0.size):
        j = point[i]
        a, b, g = d0[i], d1[i], d2[i]
        ad, bd, gd = X_dot[j, 0] - c0, X_dot[j, 1] - c1, X_dot[j, 2] - c2
        y0 = R00 * a + R01 * b + R02 * g
        y1 = R10 * a + R11 * b + R12 * g
        y2 = R20 * a + R21 * b + R22 * g
        y0d = R00 * ad + R01 * bd + R02 * gd + Q00 * a + Q01 * b + Q02 * g
        y1d = R10 * ad + R11 * bd + R12 * gd + Q10 * a + Q11 * b + Q12 * g
        y2d = R20 * ad + R21 * bd + R22 * gd + Q20 * a + Q21 * b + Q22 * g
        q = 1.0 / y2
        u, t = y0 * q, y1 * q
        ud, td = (y0d - u * y2d) * q, (y1d - t * y2d) * q
        s = u * u + t * t
        sd = 2 * (u * ud + t * td)
        D = 1 + s * (k1 + k2 * s)
        Dp = k1 + 2 * k2 * s
        Dd = s * (k1d + k2d * s) + Dp * sd
        p0, p1 = f * u * D + x0 - seen0[i], f * t * D + x1 - seen1[i]
        p0d = fd * u * D + f * (ud * D + u * Dd) + x0d
        p1d = fd * t * D + f * (td * D + t * Dd) + x1d
        ww, wd = w[i], vw[i]
        e0, e1 = ww * p0, ww * p1
        e0d, e1d = wd * p0 + ww * p0d, wd * p1 + ww * p1d
        b0, b1 = 2 * e0 * ww, 2 * e1 * ww
        b0d, b1d = 2 * (e0d * ww + e0 * wd), 2 * (e1d * ww + e1 * wd)
        wout[i] = 2 * (e0d * p0 + e1d * p1 + e0 * p0d + e1 * p1d) + (12 * ww * ww - 4) * wd
        m = b0 * u + b1 * t
        md = b0d * u + b1d * t + b0 * ud + b1 * td
        sx0 += b0d
        sx1 += b1d
        sf += md * D + m * Dd
        Db, Dbd = f * m, fd * m + f * md
        sk1 += Dbd * s + Db * sd
        sk2 += (Dbd * s + 2 * Db * sd) * s
        sb = Db * Dp
        sbd = Dbd * Dp + Db * (k1d + 2 * k2d * s + 2 * k2 * sd)
        fD, fDd = f * D, fd * D + f * Dd
        ub, tb = fD * b0 + 2 * sb * u, fD * b1 + 2 * sb * t
        ubd = fDd * b0 + fD * b0d + 2 * (sbd * u + sb * ud)
        tbd = fDd * b1 + fD * b1d + 2 * (sbd * t + sb * td)
        z0, z1 = ub * q, tb * q
        n = u * ub + t * tb
        z2 = -n * q
        qd = -q * q * y2d
        z0d, z1d = ubd * q + ub * qd, tbd * q + tb * qd
        z2d = -(ud * ub + td * tb + u * ubd + t * tbd) * q - n * qd
        A00 += z0d * a + z0 * ad
        A01 += z0d * b + z0 * bd
        A02 += z0d * g + z0 * gd
        A10 += z1d * a + z1 * ad
        A11 += z1d * b + z1 * bd
        A12 += z1d * g + z1 * gd
        A20 += z2d * a + z2 * ad
        A21 += z2d * b + z2 * bd
        A22 += z2d * g + z2 * gd
        h0 = R00 * z0d + R10 * z1d + R20 * z2d + Q00 * z0 + Q10 * z1 + Q20 * z2
        h1 = R01 * z0d + R11 * z1d + R21 * z2d + Q01 * z0 + Q11 * z1 + Q21 * z2
        h2 = R02 * z0d + R12 * z1d + R22 * z2d + Q02 * z0 + Q12 * z1 + Q22 * z2
        pulled[0, i], pulled[1, i], pulled[2, i] = h0, h1, h2
        s0 += h0
        s1 += h1
        s2 += h2
    out[3], out[4], out[5] = -s0, -s1, -s2
    out[6], out[7], out[8], out[9], out[10] = sf, sx0, sx1, sk1, sk2
    for l in range(3):
        g_ = G[l]
        out[l] = (
            A00 * g_[0, 0]
            + A01 * g_[0, 1]
            + A02 * g_[0, 2]
            + A10 * g_[1, 0]
            + A11 * g_[1, 1]
            + A12 * g_[1, 2]
            + A20 * g_[2, 0]
            + A21 * g_[2, 1]
            + A22 * g_[2, 2]
        )
        for j in range(3):
            out[l] += rbar[l, j] * v[j]


@_kernel
def _gradient_y(R, cam, d0, d1, d2, seen0, seen1, w, A):
    f, k1, k2 = cam[6], cam[9], cam[10]
    for i in range(d0.size):
        a, b, g = d0[i], d1[i], d2[i]
        y0 = R[0, 0] * a + R[0, 1] * b + R[0, 2] * g
        y1 = R[1, 0] * a + R[1, 1] * b + R[1, 2] * g
        y2 = R[2, 0] * a + R[2, 1] * b + R[2, 2] * g
        q = 1.0 / y2
        u, t = y0 * q, y1 * q
        s = u * u + t * t
        D = 1 + s * (k1 + k2 * s)
        Dp = k1 + 2 * k2 * s
        b0 = 2 * w[i] * w[i] * (f * u * D + cam[7] - seen0[i])
        b1 = 2 * w[i] * w[i] * (f * t * D + cam[8] - seen1[i])
        sb = f * (b0 * u + b1 * t) * Dp
        ub, tb = f * D * b0 + 2 * sb * u, f * D * b1 + 2 * sb * t
        z0, z1, z2 = ub * q, tb * q, -(u * ub + t * tb) * q
        A[0, 0] += z0 * a
        A[0, 1] += z0 * b
        A[0, 2] += z0 * g
        A[1, 0] += z1 * a
        A[1, 1] += z1 * b
        A[1, 2] += z1 * g
        A[2, 0] += z2 * a
        A[2, 1] += z2 * b
        A[2, 2] += z2 * g


@_kernel
def _product(
    first, rows, cameras, d, seen, w, point, sorted_points, X_dot, v, vw, pulled, wout, out, X_out
):
    cams, R, G, rbar = cameras
    for c in range(first.size - 1):
        lo, hi = first[c], first[c + 1]
        _camera(
            cams[c], R[c], G[c], rbar[c], d[0, lo:hi], d[1, lo:hi], d[2, lo:hi], seen[0, lo:hi],
            seen[1, lo:hi], w[lo:hi], point[lo:hi], X_dot, v[c], vw[lo:hi], pulled[:, lo:hi],
            wout[lo:hi], out[c],
        )  # fmt: skip
    for j in range(X_out.shape[0]):
        a = b = g = 0.0
        for e in range(rows[j], rows[j + 1]):
            i = sorted_points[e]
            a += pulled[0, i]
            b += pulled[1, i]
            g += pulled[2, i]
        X_out[j, 0], X_out[j, 1], X_out[j, 2] = a, b, g


def prepare(x, camera, point, seen, cameras, points):
    """Return ``product(v, out)`` at x, as ``benchmarks.hand.prepare`` does."""

    def unpacked(x):
        ends = 11 * cameras, 11 * cameras + 3 * points
        return x[: ends[0]].reshape(-1, 11), x[ends[0] : ends[1]].reshape(-1, 3), x[ends[1] :]

    cams, X, w = unpacked(x)
    R, G, second = _rotations(cams[:, :3])
    d = np.ascontiguousarray((X[point] - cams[camera, 3:6]).T)
    seen = np.ascontiguousarray(seen.T)
    first = np.searchsorted(camera, np.arange(cameras + 1))
    A = np.zeros((cameras, 3, 3))
    for c in range(cameras):
        lo, hi = first[c], first[c + 1]
        _gradient_y(R[c], cams[c], *d[:, lo:hi], *seen[:, lo:hi], w[lo:hi], A[c])
    of_cameras = cams, R, G, np.einsum("cab,cklab->ckl", A, second)
    sorted_points = np.argsort(point, kind="stable")
    rows = np.searchsorted(point[sorted_points], np.arange(points + 1))
    pulled = np.empty((3, camera.size))

    def product(v, out):
        v_cams, X_dot, vw = unpacked(v)
        out_cams, X_out, wout = unpacked(out)
        state = first, rows, of_cameras, d, seen, w, point, sorted_points
        _product(*state, X_dot, v_cams, vw, pulled, wout, out_cams, X_out)
        return out

    return product
