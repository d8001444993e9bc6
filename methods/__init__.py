"""The methods that ncbench ships, one module each; they use ncbench's public names only."""
