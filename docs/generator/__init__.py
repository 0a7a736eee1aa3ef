"""The pages of ``docs/reference`` that follow from the code: ``make docs`` writes them."""
