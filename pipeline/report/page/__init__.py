"""The page: what of the runs it shows (content, lanes, gallery, media), and the template, styles and scripts it is put together from."""
