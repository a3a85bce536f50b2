/* See date.h. Room: src/core. */
#include "date.h"

/* Days since 1970 of a day of the Gregorian calendar. Years begin in March
 * here, so that the leap day is a year's last. */
static uint64_t days_from(unsigned year, unsigned month, unsigned day)
{
  unsigned y = month <= 2 ? year - 1 : year;
  unsigned m = month <= 2 ? month + 9 : month - 3;

  return (uint64_t)y * 365 + y / 4 - y / 100 + y / 400 +
         (153 * m + 2) / 5 + day - 1 - 719468;
}

static void put2(char *to, unsigned value)
{
  to[0] = (char)('0' + value / 10 % 10);
  to[1] = (char)('0' + value % 10);
}

void ls_date_write(char to[LS_DATE_SIZE], uint64_t time)
{
  unsigned second = (unsigned)(time % 86400);
  /* The reverse of days_from, in eras of 400 years. */
  unsigned days = (unsigned)(time / 86400) + 719468;
  unsigned era = days / 146097;
  unsigned in_era = days % 146097;
  unsigned year = (in_era - in_era / 1460 + in_era / 36524 -
                   in_era / 146096) / 365;
  unsigned in_year = in_era - (year * 365 + year / 4 - year / 100);
  unsigned m = (5 * in_year + 2) / 153;
  unsigned month = m < 10 ? m + 3 : m - 9;

  year += era * 400 + (month <= 2);
  put2(to, year / 100);
  put2(to + 2, year % 100);
  put2(to + 4, month);
  put2(to + 6, in_year - (153 * m + 2) / 5 + 1);
  to[8] = 'T';
  put2(to + 9, second / 3600);
  put2(to + 11, second / 60 % 60);
  put2(to + 13, second % 60);
  to[15] = 'Z';
}

/* The value of n digits, or -1. */
static int digits(const char *p, size_t n)
{
  int value = 0;

  for(; n; n--, p++) {
    if(!ls_is_digit(*p))
      return -1;
    value = value * 10 + (*p - '0');
  }
  return value;
}

static ls_code combine(int year, int month, int day, int hour, int minute,
                       int second, uint64_t *time)
{
  static const char lengths[] = {
    31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31
  };
  bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

  if(year < 1970 || month < 1 || month > 12 || day < 1 ||
     day > lengths[month - 1] + (month == 2 && leap) ||
     hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
     second < 0 || second > 59)
    return LS_EPARSE;
  *time = days_from((unsigned)year, (unsigned)month, (unsigned)day) * 86400 +
          (uint64_t)(hour * 3600 + minute * 60 + second);
  return LS_OK;
}

ls_code ls_date_read(ls_str text, uint64_t *time)
{
  const char *p = text.p;

  if(text.n != LS_DATE_SIZE || p[8] != 'T' || p[15] != 'Z')
    return LS_EPARSE;
  return combine(digits(p, 4), digits(p + 4, 2), digits(p + 6, 2),
                 digits(p + 9, 2), digits(p + 11, 2), digits(p + 13, 2),
                 time);
}

ls_code ls_date_read_http(ls_str text, uint64_t *time)
{
  static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
  const char *p = text.p;
  int month;

  /* Sun, 06 Nov 1994 08:49:37 GMT */
  if(text.n != 29 || memcmp(p + 3, ", ", 2) != 0 || p[7] != ' ' ||
     p[11] != ' ' || p[16] != ' ' || p[19] != ':' || p[22] != ':' ||
     memcmp(p + 25, " GMT", 4) != 0)
    return LS_EPARSE;
  for(month = 0; month < 12; month++) {
    if(memcmp(p + 8, months + 3 * month, 3) == 0)
      break;
  }
  return combine(digits(p + 12, 4), month + 1, digits(p + 5, 2),
                 digits(p + 17, 2), digits(p + 20, 2), digits(p + 23, 2),
                 time);
}
