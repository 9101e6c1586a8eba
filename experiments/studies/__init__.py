"""What the studies of papers share: runs that are trained once, tables of models, pictures, pages."""
