"""Results to look at: sheets of crops, and the page on which results are chosen. Knows no network and no console."""
