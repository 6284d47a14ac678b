"""Methods without a published preset; each module says what would bring it back."""
