# CR2 with Bell-McCaffrey (Satterthwaite) degrees of freedom by clubSandwich, pairs missing.
#
#     Rscript tests/statistics/recorded/missing_pairs.R > tests/statistics/recorded/missing_pairs.json
#
# d[cell, replicate] = value of arm a - value of arm b, least squares with a fixed effect for each
# cell, clustered on the replicate; independence is the working model. The contrast is the mean of
# the cells that were seen. A pattern is the trials that are missing: "arm replicate".
suppressPackageStartupMessages({library(clubSandwich); library(jsonlite)})

own <- function(C) lapply(1:C, function(c) c(paste0("a", c), paste0("b", c)))
shared <- function(C) lapply(1:C, function(c) c(paste0("a", c), "b1"))
patterns <- list(
  complete = list(cells = own(3), R = 5, missing = c()),
  `one cell` = list(cells = own(1), R = 6, missing = c("a1 2", "b1 5")),
  `one of many` = list(cells = own(4), R = 3, missing = c("a2 1")),
  `two replicates` = list(cells = own(3), R = 2, missing = c("b3 2")),
  `scattered` = list(cells = own(6), R = 6, missing = c("a1 1", "a3 1", "b4 2", "a6 5", "b1 6")),
  `the shared arm` = list(cells = shared(4), R = 5, missing = c("b1 3", "a2 1")),
  `a replicate almost gone` = list(cells = own(4), R = 4, missing = c("a1 4", "b2 4", "a3 4")),
  `a cell seen once` = list(cells = own(3), R = 4, missing = c("a2 1", "b2 3", "a2 4")),
  `a cell never seen` = list(cells = own(3), R = 4, missing = c("a2 1", "a2 2", "a2 3", "b2 4", "a1 2")),
  `many` = list(cells = own(6), R = 10, missing = c("a1 1", "a2 1", "b2 7", "a3 3", "a3 4", "b5 4",
                                                    "b6 9", "a6 10", "a4 10", "b1 2"))
)
set.seed(20261127)
run <- function(pattern) {
  arms <- unique(unlist(pattern$cells)); R <- pattern$R
  common <- rnorm(R)
  y <- sapply(arms, function(arm) round(common + rnorm(1) + rnorm(R, 0, 1 + (arm == "a1")), 6))   # R, arm
  gone <- if (length(pattern$missing)) do.call(rbind, strsplit(pattern$missing, " "))
  if (!is.null(gone)) for (i in seq_len(nrow(gone))) y[as.integer(gone[i, 2]), gone[i, 1]] <- NA
  d <- do.call(rbind, lapply(seq_along(pattern$cells), function(c)
    data.frame(cell = c, r = 1:R, d = y[, pattern$cells[[c]][1]] - y[, pattern$cells[[c]][2]])))
  d <- d[!is.na(d$d), ]; d$cell <- factor(d$cell); C <- nlevels(d$cell)
  twice <- as.vector(table(d$cell)) > 1
  fit <- if (C > 1) lm(d ~ 0 + cell, d) else lm(d ~ 1, d)
  v <- vcovCR(fit, cluster = d$r, type = "CR2")
  said <- linear_contrast(fit, v, contrasts = matrix(twice / sum(twice), 1, C), test = "Satterthwaite")
  list(cells = pattern$cells, values = as.list(as.data.frame(y)),
       difference = said$Est, se = said$SE, df = said$df)
}
sets <- lapply(patterns, run)
versions <- lapply(c(clubSandwich = "clubSandwich", sandwich = "sandwich"), function(p) as.character(packageVersion(p)))
cat(toJSON(list(recorded = format(Sys.Date()), R = R.version.string, packages = versions, sets = sets),
           digits = NA, auto_unbox = TRUE, na = "null"), "\n")
