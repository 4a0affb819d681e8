"""Drawing for pages that are one file: charts as SVG, without a script."""
