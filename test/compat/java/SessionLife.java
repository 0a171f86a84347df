import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.apache.iotdb.isession.SessionDataSet;
import org.apache.iotdb.session.Session;
import org.apache.tsfile.enums.TSDataType;
import org.apache.tsfile.read.common.RowRecord;
import org.apache.tsfile.write.record.Tablet;
import org.apache.tsfile.write.schema.IMeasurementSchema;
import org.apache.tsfile.write.schema.MeasurementSchema;

/**
 * One life of the official Session of 2.0; arguments: port, storage group. Prints "life complete".
 * The test makes the 0.13 form of it, whose packages have other names.
 */
public class SessionLife {
  static void check(boolean holds, String what) {
    if (!holds) {
      throw new AssertionError(what);
    }
    System.out.println("ok " + what);
  }

  public static void main(String[] arguments) throws Exception {
    String sg = arguments[1];
    Session session = new Session("127.0.0.1", Integer.parseInt(arguments[0]), "root", "root");
    session.open(false);
    List<String> names = Arrays.asList("b", "i", "l", "f", "d", "t");
    List<TSDataType> types =
        Arrays.asList(
            TSDataType.BOOLEAN,
            TSDataType.INT32,
            TSDataType.INT64,
            TSDataType.FLOAT,
            TSDataType.DOUBLE,
            TSDataType.TEXT);
    List<Object> values =
        Arrays.asList(true, Integer.MIN_VALUE, Long.MIN_VALUE, 1.5f, Double.NaN, "测试");
    session.insertRecord(sg + ".r", 1L, names, types, values);
    session.insertAlignedRecord(sg + ".a", 1L, names, types, values);
    session.insertRecords(
        Arrays.asList(sg + ".r", sg + ".r2"),
        Arrays.asList(2L, 2L),
        Arrays.asList(names, names),
        Arrays.asList(types, types),
        Arrays.asList(values, values));
    session.insertRecordsOfOneDevice(
        sg + ".r",
        Arrays.asList(4L, 3L),
        Arrays.asList(names, names),
        Arrays.asList(types, types),
        Arrays.asList(values, values));
    for (String device : Arrays.asList(".r", ".a")) {
      try (SessionDataSet data =
          session.executeQueryStatement("SELECT b, i, l, f, d, t FROM " + sg + device)) {
        check(data.hasNext(), device + " has a row");
        RowRecord row = data.next();
        check(row.getTimestamp() == 1, "time");
        check(row.getFields().get(0).getBoolV(), "boolean");
        check(row.getFields().get(1).getIntV() == Integer.MIN_VALUE, "int32");
        check(row.getFields().get(2).getLongV() == Long.MIN_VALUE, "int64");
        check(row.getFields().get(3).getFloatV() == 1.5f, "float");
        check(Double.isNaN(row.getFields().get(4).getDoubleV()), "NaN");
        check("测试".equals(row.getFields().get(5).getStringValue()), "text");
      }
    }
    session.insertRecord(sg + ".s", 1L, Arrays.asList("x"), Arrays.asList("2.5"));
    List<IMeasurementSchema> schemas = new ArrayList<>();
    schemas.add(new MeasurementSchema("v", TSDataType.INT64));
    schemas.add(new MeasurementSchema("n", TSDataType.DOUBLE));
    Tablet tablet = new Tablet(sg + ".t", schemas, 1000);
    long[] times = new long[1000];
    for (int start = 0; start < 20000; start += 1000) {
      tablet.reset();
      for (int n = 0; n < 1000; n++) {
        tablet.addTimestamp(n, start + n);
        tablet.addValue("v", n, (Object) Long.valueOf(start + n));
        tablet.addValue("n", n, (Object) (n % 2 == 0 ? Double.valueOf(0.5) : null));
      }
      // 0.13: tablet.rowSize = 1000;
      session.insertTablet(tablet);
    }
    try (SessionDataSet data = session.executeQueryStatement("SELECT v, n FROM " + sg + ".t")) {
      data.setFetchSize(3000);
      int count = 0;
      while (data.hasNext()) {
        RowRecord row = data.next();
        if (row.getTimestamp() != count || row.getFields().get(0).getLongV() != count) {
          throw new AssertionError("row " + count);
        }
        boolean blank = row.getFields().get(1) == null || row.getFields().get(1).getDataType() == null;
        if (blank != (count % 2 == 1)) {
          throw new AssertionError("null of row " + count);
        }
        count++;
      }
      check(count == 20000, "tablets with nulls, paging");
    }
    check(session.checkTimeseriesExists(sg + ".t.v"), "exists");
    session.deleteData(sg + ".t.v", 19990L);
    try (SessionDataSet data = session.executeQueryStatement("SELECT count(v) FROM " + sg + ".t")) {
      check(data.next().getFields().get(0).getLongV() == 9, "delete");
    }
    session.executeNonQueryStatement("INSERT INTO " + sg + ".q(time, s) VALUES (1, 2.5)");
    session.setTimeZone("+08:00");
    check("+08:00".equals(session.getTimeZone()), "time zone");
    session.deleteTimeseries(Collections.singletonList(sg + ".t.n"));
    check(!session.checkTimeseriesExists(sg + ".t.n"), "series deleted");
    session.deleteStorageGroup(sg);
    session.close();
    System.out.println("life complete");
  }
}
