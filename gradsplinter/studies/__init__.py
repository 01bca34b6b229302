"""Studies: config → results, as tables and tensors; figures are made in `gradsplinter.plot`."""
