"""What no published preset uses yet; each module says what would bring it back."""
