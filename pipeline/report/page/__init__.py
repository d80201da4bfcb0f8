"""The report's page: its data (content, gallery, media), and its template, styles and scripts."""
