"""The methods that ship with ncbench, one module each. They import public names of ncbench only."""
