"""Operations on active numbers and arrays, as Numba overloads."""
