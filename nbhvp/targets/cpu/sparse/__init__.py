"""Loops behind sparse derivatives: colours, and sums of terms by entries."""
