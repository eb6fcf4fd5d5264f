"""H(x) v of the Kepler problem at a new x, by hand: nothing is kept from point to point.

Tangents go forward with the trajectory, adjoints and their tangents go backward; the stages of a step of
Runge-Kutta are computed again there. With J the Jacobian of the acceleration -x / |x|^3, which is
symmetric, and J' its derivative along the tangent, a stage takes back

    k_bar -> J k_bar,        k_bar_dot -> J k_bar_dot + J' k_bar.
"""

import numpy as np
from numba import njit

__all__ = ["kepler"]

OPTIONS = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
H = 0.002
"""The length of a step."""


@njit(inline="always", **OPTIONS)
def _stage(x, y):
    """The acceleration, its Jacobian, 3 / r^5 and r^2."""
    square = x * x + y * y
    cube = 1.0 / (square * np.sqrt(square))
    fifth = 3.0 * cube / square
    return (
        -x * cube,
        -y * cube,
        x * x * fifth - cube,
        x * y * fifth,
        y * y * fifth - cube,
        fifth,
        square,
    )


@njit(inline="always", **OPTIONS)
def _change(x, y, p, q, fifth, square):
    """The derivative of the Jacobian along (p, q)."""
    dot = x * p + y * q
    cube, seventh = -fifth * dot, -5.0 * fifth * dot / square
    xx = 2.0 * x * p * fifth + x * x * seventh - cube
    yy = 2.0 * y * q * fifth + y * y * seventh - cube
    return xx, (p * y + x * q) * fifth + x * y * seventh, yy


@njit(**OPTIONS)
def kepler(start, v, steps):
    rows, h = np.empty((steps, 8)), H
    a, b, c, d = start
    p, q, r, s = v
    for k in range(steps):
        rows[k] = a, b, c, d, p, q, r, s
        x, y, z, w, xp, yp, zp, wp = a, b, c, d, p, q, r, s
        ta = tb = tc = td = tp = tq = tr = ts = 0.0
        for stage in range(4):
            ax, ay, xx, xy, yy, _, _ = _stage(x, y)
            ap, aq = xx * xp + xy * yp, xy * xp + yy * yp
            weight = 1.0 if stage in (0, 3) else 2.0
            ta, tb, tc, td = ta + weight * z, tb + weight * w, tc + weight * ax, td + weight * ay
            tp, tq, tr, ts = tp + weight * zp, tq + weight * wp, tr + weight * ap, ts + weight * aq
            g = h if stage == 2 else h / 2
            x, y, z, w = a + g * z, b + g * w, c + g * ax, d + g * ay
            xp, yp, zp, wp = p + g * zp, q + g * wp, r + g * ap, s + g * aq
        a, b, c, d = a + h / 6 * ta, b + h / 6 * tb, c + h / 6 * tc, d + h / 6 * td
        p, q, r, s = p + h / 6 * tp, q + h / 6 * tq, r + h / 6 * tr, s + h / 6 * ts
    la, lb, lc, ld = 2 * (a - 0.1), 2 * (b - 0.1), 2 * (c - 0.1), 2 * (d - 0.1)
    ma, mb, mc, md = 2 * p, 2 * q, 2 * r, 2 * s
    for k in range(steps - 1, -1, -1):
        a, b, c, d, p, q, r, s = rows[k]
        ax, ay, xx1, xy1, yy1, i1, r1 = _stage(a, b)
        ap, aq = xx1 * p + xy1 * q, xy1 * p + yy1 * q
        x2, y2, p2, q2 = a + h / 2 * c, b + h / 2 * d, p + h / 2 * r, q + h / 2 * s
        z2, w2, s2, t2 = c + h / 2 * ax, d + h / 2 * ay, r + h / 2 * ap, s + h / 2 * aq
        ax, ay, xx2, xy2, yy2, i2, r2 = _stage(x2, y2)
        ap, aq = xx2 * p2 + xy2 * q2, xy2 * p2 + yy2 * q2
        x3, y3, p3, q3 = a + h / 2 * z2, b + h / 2 * w2, p + h / 2 * s2, q + h / 2 * t2
        z3, w3, s3, t3 = c + h / 2 * ax, d + h / 2 * ay, r + h / 2 * ap, s + h / 2 * aq
        _, _, xx3, xy3, yy3, i3, r3 = _stage(x3, y3)
        x4, y4, p4, q4 = a + h * z3, b + h * w3, p + h * s3, q + h * t3
        _, _, xx4, xy4, yy4, i4, r4 = _stage(x4, y4)
        xs, ys, ps, qs = (x4, x3, x2, a), (y4, y3, y2, b), (p4, p3, p2, p), (q4, q3, q2, q)
        xxs, xys, yys = (xx4, xx3, xx2, xx1), (xy4, xy3, xy2, xy1), (yy4, yy3, yy2, yy1)
        fifths, squares = (i4, i3, i2, i1), (r4, r3, r2, r1)
        ka, kb, kc, kd = h / 6 * la, h / 6 * lb, h / 6 * lc, h / 6 * ld
        na, nb, nc, nd = h / 6 * ma, h / 6 * mb, h / 6 * mc, h / 6 * md
        ea, eb, ec, ed, fa, fb, fc, fd = ka, kb, kc, kd, na, nb, nc, nd
        for stage in range(4):
            xx, xy, yy = xxs[stage], xys[stage], yys[stage]
            dxx, dxy, dyy = _change(
                xs[stage], ys[stage], ps[stage], qs[stage], fifths[stage], squares[stage]
            )
            ga, gb, gc, gd = xx * ec + xy * ed, xy * ec + yy * ed, ea, eb
            ja = xx * fc + xy * fd + dxx * ec + dxy * ed
            jb, jc, jd = xy * fc + yy * fd + dxy * ec + dyy * ed, fa, fb
            la, lb, lc, ld = la + ga, lb + gb, lc + gc, ld + gd
            ma, mb, mc, md = ma + ja, mb + jb, mc + jc, md + jd
            g, weight = h if stage == 0 else h / 2, 2.0 if stage < 2 else 1.0
            ea, eb, ec, ed = (
                weight * ka + g * ga,
                weight * kb + g * gb,
                weight * kc + g * gc,
                weight * kd + g * gd,
            )
            fa, fb, fc, fd = (
                weight * na + g * ja,
                weight * nb + g * jb,
                weight * nc + g * jc,
                weight * nd + g * jd,
            )
    return np.array([ma, mb, mc, md])
